"""The stage join: what language pairs have in common stands once, no pair pays for it alone, nothing else is lost."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from kd.base.errors import IncompleteArtifact
from kd.base.progress import Progress
from kd.corpora.ids import Origin
from kd.corpora.joined import read_joined
from kd.corpora.shards import Corpus, CorpusWriter
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import JoinConfig, SameBy
from kd.stages.join import Join

LANGUAGES = ("da", "nl", "sv")


def job(
    folder: Path, texts: Mapping[str, list[tuple[str, str]]], config: JoinConfig, lines: int = 10
) -> Job[JoinConfig]:
    artifacts = []
    for language, pairs in texts.items():
        source, target = language.split("-") if "-" in language else (language, "en")
        path, origin = folder / "in" / language, Origin(f"{source}-{target}", "made_up")
        with CorpusWriter(path, (source, target), lines, ("rank",), keep_groups=True, origins=[origin]) as writer:
            for pair in origin.number(pairs):
                writer.add(pair, language)
        artifacts.append(Artifact(path, "select", f"select.{source}-{target}", "all", "", f"{source}-{target}", {}, {}))
    out = folder / "out"
    out.mkdir()
    return Job(
        name="all", stage="join", config=config, identity={}, axis=None, axis_value={}, inputs={"corpora": artifacts},
        files={}, out=out, resumable_from=[], attempts=1, threads=1, device="cpu", machine={}, progress=Progress(None),
    )  # fmt: skip


@pytest.mark.parametrize("lines", [10, 200, 1000])
def test_english_that_all_have_stands_once_and_is_shared_out(tmp_path: Path, lines: int) -> None:
    common = {language: [(f"{language} {n}", f"common {n}") for n in range(300)] for language in LANGUAGES}
    # Each in an order of its own, as shuffled corpora are.
    texts = {name: sorted(pairs, key=lambda pair: hash_of(pair[0])) for name, pairs in common.items()}
    texts["sv"].append(("bara svenska", "only Swedish"))
    work = job(tmp_path, texts, JoinConfig(by=SameBy.target), lines)
    Join().run(work)
    summary = Join().check(work)
    assert (summary.counts["pairs in"], summary.counts["pairs out"]) == (901, 301)
    assert summary.dropped == {"duplicates": 600}
    left = read_joined(work.out)
    assert list(left) == ["da-en", "nl-en", "sv-en"]
    kept = Counter(pair.target for corpus in left.values() for pair in corpus.read())
    assert set(kept.values()) == {1}
    assert len(kept) == 301
    assert all(70 < corpus.pairs < 130 for corpus in left.values())  # a third each, give or take
    given = {name: set(Corpus(tmp_path / "in" / name[:2]).read()) for name in left}
    for name, corpus in left.items():
        assert set(corpus.read()) <= given[name]  # ids and texts as they were
        assert set(corpus.column("rank")) == {name[:2]}
        assert corpus.groups_kept
    assert sorted(path.name for path in work.out.iterdir()) == ["counts.json", "da-en", "nl-en", "sv-en"]


def test_who_has_more_keeps_more_however_few_its_shards(tmp_path: Path) -> None:
    sizes = {"da": 100, "nl": 400, "sv": 900}
    texts = {name: [(f"{name} {n}", f"English {n}") for n in range(size)] for name, size in sizes.items()}
    texts = {name: sorted(pairs, key=lambda pair: hash_of(pair[0])) for name, pairs in texts.items()}
    work = job(tmp_path, texts, JoinConfig(by=SameBy.target), 1000)
    Join().run(work)
    left = {name: corpus.pairs for name, corpus in read_joined(work.out).items()}
    # Of 100 sentences each of the three has a third, of 300 more each of two a half, and 500 are Swedish alone.
    assert 20 < left["da-en"] < 47
    assert 150 < left["nl-en"] < 217
    assert sum(left.values()) == 900


def test_by_pair_only_what_is_wholly_the_same_goes(tmp_path: Path) -> None:
    texts = {"da": [("ja", "yes"), ("ja", "yes"), ("nej", "no")], "nl": [("ja", "yes"), ("nee", "no")]}
    work = job(tmp_path, texts, JoinConfig(by=SameBy.pair))
    Join().run(work)
    assert Join().check(work).counts["pairs out"] == 3


@pytest.mark.parametrize(("by", "left"), [(SameBy.target, 4), (SameBy.pair, 4), (SameBy.source, 3)])
def test_the_same_text_in_two_languages_is_two_sentences_to_write(tmp_path: Path, by: SameBy, left: int) -> None:
    texts = {"en-da": [("2023", "2023"), ("yes", "ja")], "en-sv": [("2023", "2023"), ("indeed", "ja")]}
    work = job(tmp_path, texts, JoinConfig(by=by))
    Join().run(work)
    assert Join().check(work).counts["pairs out"] == left


def test_a_part_that_is_gone_is_missed(tmp_path: Path) -> None:
    work = job(tmp_path, {"da": [("ja", "yes")], "nl": [("nee", "no")]}, JoinConfig())
    Join().run(work)
    (work.out / "nl-en" / "index.json").unlink()
    with pytest.raises(IncompleteArtifact, match="does not match its counts"):
        Join().check(work)


def hash_of(text: str) -> int:
    """An order that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
