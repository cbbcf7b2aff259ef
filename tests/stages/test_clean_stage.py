"""The stage clean: what goes in comes out or is counted, for any number of processes, with a sample of what went."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.ids import Origin
from kd.corpora.rejects import FILE, read_rejects
from kd.corpora.shards import Corpus, CorpusWriter
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import CleanConfig, DuplicatesConfig, SameBy
from kd.stages.clean import COUNTS, Clean

FILTERS: dict[str, Any] = {"normalise": {}, "empty": {}, "length": {"max_words": 5}, "ratio": {}, "copies": {}}
ROWS = [
    ("a first sentence", "ein erster Satz"),
    ("", "nothing"),
    ("a  first\tsentence", "ein erster Satz"),  # equal to the first once normalised
    ("copied as it is", "copied as it is"),
    ("a second sentence", "ein zweiter Satz"),
    ("far too many words for a filter", "zu viele"),
    ("a first sentence", "eine andere Übersetzung"),
    ("a second sentence", "ein zweiter Satz"),
    ("short", "a translation much-much-much-much-much-much-longer"),
]


def config(**changes: Any) -> CleanConfig:
    settings = {"filters": FILTERS, "duplicates": DuplicatesConfig(True, SameBy.pair, False), "rejects": 100}
    return CleanConfig(**{**settings, **changes})


def collected(
    folder: Path, rows: Sequence[tuple[str, str]], name: str = "web", use: str = "train", shard: int = 4, **columns: Any
) -> Artifact:
    origin = Origin("en-de", name, use)
    with CorpusWriter(folder / name, ("en", "de"), shard, columns=list(columns), origins=[origin]) as writer:
        for place, pair in enumerate(origin.number(rows)):
            writer.add(pair, *(values[place] for values in columns.values()))
    return Artifact(folder / name, name, "collect.en-de", name, "f", "en-de", {}, {})


def job(folder: Path, artifacts: Sequence[Artifact], settings: CleanConfig, threads: int = 1) -> Job[CleanConfig]:
    folder.mkdir(parents=True)
    return Job(
        "all", "clean.en-de", settings, {}, "en-de", {"source": "en", "target": "de"}, {"corpus": list(artifacts)}, {},
        folder, [], 1, threads, "cpu", {}, Progress(None),
    )  # fmt: skip


def run(folder: Path, artifacts: Sequence[Artifact], settings: CleanConfig, threads: int = 1) -> tuple[Corpus, Any]:
    task = job(folder, artifacts, settings, threads)
    Clean().run(task)
    return Corpus(folder), Clean().check(task)


def texts(corpus: Corpus) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in corpus.read()]


def test_what_goes_in_comes_out_or_is_counted(tmp_path: Path) -> None:
    corpora = [collected(tmp_path, ROWS), collected(tmp_path, ROWS[:5], "tm"), collected(tmp_path, ROWS, "wmt", "test")]
    corpus, summary = run(tmp_path / "out", corpora, config())
    assert texts(corpus) == [ROWS[0], ROWS[4], ROWS[6]], "the first of several stays, in the order of the corpora"
    assert summary.counts == {"pairs in": 14, "pairs out": 3}
    expected = {"empty": 2, "length": 1, "ratio": 1, "copies": 2, "duplicates": 5}
    assert summary.dropped == expected
    assert summary.facts["note"].startswith(
        "kept 3 of 14 pairs (duplicates dropped 5); WARNING: 3 PAIRS DO NOT LOOK LIKE TRANSLATIONS"
    )
    assert summary.facts["rewritten"] == {"normalise": 2}
    assert summary.facts["corpora"]["web"] == {
        "pairs in": 9,
        "pairs out": 3,
        "dropped": {"empty": 1, "length": 1, "ratio": 1, "copies": 1, "duplicates": 2},
    }
    assert summary.facts["corpora"]["tm"]["pairs out"] == 0
    assert set(summary.facts["corpora"]) == {"web", "tm"}, "held-out corpora are left alone"
    assert {origin.name for origin in corpus.origins.values()} == {"web", "tm"}
    rejects = list(read_rejects(tmp_path / "out" / FILE))
    assert sorted(label for label, _ in rejects) == sorted(label for label, n in expected.items() for _ in range(n))
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()], "nothing of the work is left"


def test_filters_that_need_the_languages_say_how_to_name_them(tmp_path: Path) -> None:
    origin = Origin("source-target", "files", "train")
    with CorpusWriter(tmp_path / "files", ("source", "target"), 4, origins=[origin]) as writer:
        for pair in origin.number([("This is one sentence.", "Das ist ein Satz.")]):
            writer.add(pair)
    artifact = Artifact(tmp_path / "files", "files", "collect.source-target", "files", "f", "source-target", {}, {})
    task = replace(job(tmp_path / "out", [artifact], config(filters={"language": {}})), axis="source-target")
    Clean().run(task)
    assert Clean().check(task).facts["note"] == (
        "kept 1 of 1 pairs; filters not used, because they do not support these languages: language "
        "(set the languages to use them, such as pairs.source-target.source=en pairs.source-target.target=de)"
    )


def test_short_labels_and_duplicates_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    """As in the demo, where most messages are shorter than clean.filters.length.min_words."""
    rows = [(f"Label {n}", f"Etikett {n}") for n in range(40)] + [("This is one sentence.", "Das ist ein Satz.")] * 9
    _, summary = run(tmp_path / "out", [collected(tmp_path, rows)], config(filters={"length": {"min_words": 3}}))
    assert summary.facts["note"] == "kept 1 of 49 pairs (length dropped 40)"


@pytest.mark.parametrize(
    ("by", "left"), [(SameBy.source, [0, 4]), (SameBy.target, [0, 4, 6]), (SameBy.pair, [0, 4, 6])]
)
def test_what_repeats(tmp_path: Path, by: SameBy, left: list[int]) -> None:
    corpus, _ = run(tmp_path / "out", [collected(tmp_path, ROWS)], config(duplicates=DuplicatesConfig(True, by, False)))
    assert texts(corpus) == [ROWS[place] for place in left]


def test_repetitions_may_stay(tmp_path: Path) -> None:
    settings = config(duplicates=DuplicatesConfig(False, SameBy.pair, False))
    corpus, summary = run(tmp_path / "out", [collected(tmp_path, ROWS)], settings)
    assert texts(corpus) == [ROWS[0], ROWS[0], ROWS[4], ROWS[6], ROWS[4]]
    assert "duplicates" not in summary.dropped


def test_the_outcome_depends_on_no_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.stages.clean.PROCESS_PAIRS", 100)
    rows = [(f"sentence {n % 70} of {n % 3}", f"Satz {n % 70} von {n % 3}") for n in range(300)]
    outcomes = []
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        artifacts = [collected(folder, rows, "a", shard=40), collected(folder, [*rows[::-1], *ROWS], "b", shard=70)]
        run(folder / "out", artifacts, config(rejects=20), threads)
        outcomes.append({path.name: path.read_bytes() for path in (folder / "out").iterdir()})
    assert outcomes[0] == outcomes[1]


def test_scores_come_along_as_a_column(tmp_path: Path) -> None:
    filters = {"bicleaner": {"kind": "score", "column": "bicleaner", "least": 0.5}}
    scored = collected(tmp_path, ROWS[:3], bicleaner=["0.9", "0.2", ""])
    other = collected(tmp_path, [("unscored", "ohne Wert")], "tm")
    corpus, summary = run(tmp_path / "out", [scored, other], config(filters=filters))
    assert texts(corpus) == [ROWS[0], ROWS[2], ("unscored", "ohne Wert")]
    assert summary.dropped == {"bicleaner": 1, "duplicates": 0}
    filters["bicleaner"]["unscored"] = "drop"
    corpus, _ = run(tmp_path / "dropped", [scored, other], config(filters=filters))
    assert texts(corpus) == [ROWS[0]]
    with pytest.raises(UserError, match=r"column bicleaner, .* lack: tm"):
        run(tmp_path / "none", [other], config(filters=filters))
    filters["bicleaner"]["unscored"] = "fail"
    with pytest.raises(UserError, match=r"column bicleaner, .* lack: tm"):
        run(tmp_path / "failed", [scored, other], config(filters=filters))


def test_nothing_left_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair of en-de; dropped by empty 1, copies 1\. Loosen"):
        run(tmp_path / "out", [collected(tmp_path, [ROWS[1], ROWS[3]])], config())


def test_the_same_text_on_both_sides_is_told_as_that(tmp_path: Path) -> None:
    filters = {"empty": {}, "same": {"kind": "copies"}}  # whatever the filter is called
    with pytest.raises(
        UserError, match=r"by same 2, empty 1: source and target are nearly the same text\. Check that these"
    ):
        run(tmp_path / "out", [collected(tmp_path, [ROWS[1], ROWS[3], ROWS[3]])], config(filters=filters))


def test_what_was_tampered_with_is_not_published(tmp_path: Path) -> None:
    task = job(tmp_path / "out", [collected(tmp_path, ROWS)], config())
    Clean().run(task)
    counts = json.loads((task.out / COUNTS).read_text("utf-8"))
    counts["dropped"]["copies"] += 1
    (task.out / COUNTS).write_text(json.dumps(counts), "utf-8")
    with pytest.raises(IncompleteArtifact, match="9 pairs came in"):
        Clean().check(task)
    (task.out / "00000.tsv.zst").unlink()
    with pytest.raises(IncompleteArtifact):
        Clean().check(task)


def test_what_is_switched_off_makes_no_other_corpus() -> None:
    class Stage:
        """As much of a stage as `tasks` looks at."""

        def __init__(self, settings: CleanConfig) -> None:
            self.config = settings

    def identity(**changes: Any) -> Any:
        (draft,) = Clean().tasks(Stage(config(**changes)))  # type: ignore[arg-type]
        return draft.identity

    assert identity() == identity(filters={**FILTERS, "numbers": {"enabled": False}, "markup": None})
    assert identity() == identity(filters={**FILTERS, "empty": {"kind": "empty", "order": 21}})
    assert identity() != identity(filters={**FILTERS, "empty": {"order": 35}})
    assert identity() != identity(filters={**FILTERS, "length": {"max_words": 6}})
    assert identity() != identity(duplicates=DuplicatesConfig(True, SameBy.source, False))
