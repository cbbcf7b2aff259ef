"""The stage encode: what it leaves is whole and counted, what cannot work is refused before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.balance import in_words
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin
from kd.corpora.shards import CorpusWriter
from kd.engines.fairseq.binary import data_folder
from kd.models import vocabulary
from kd.models.description import Languages, read_languages
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import BalanceConfig, BalanceMethod, EncodeConfig, SamplingConfig, VocabularyConfig
from kd.stages.encode import Encode

CONFIG = EncodeConfig(max_pieces=24, folder_pairs=1000, sampling=SamplingConfig(seed=1))
PAIRS = [(f"ein Haus hat {n} Türen", f"a house has {n} doors") for n in range(200)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("inputs")
    origin = Origin("de-en", "made_up")
    with CorpusWriter(root / "corpus", ("de", "en"), 50, origins=[origin]) as writer:
        for pair in origin.number([*PAIRS, ("x" * 30, "x")]):
            writer.add(pair)
    write_heldout(root / "held_out", "de-en", {"dev": list(origin.number(PAIRS[:20]))})
    config = VocabularyConfig(
        size=289, model="unigram", character_coverage=1.0, normalization="identity", byte_fallback=True,
        split_digits=True, sample=1000, seed=1,
    )  # fmt: skip
    vocabulary.train((side for pair in PAIRS for side in pair), root / "vocabulary", config)
    return {name: root / name for name in ("corpus", "held_out", "vocabulary")}


def job(inputs: Mapping[str, Path], out: Path, config: EncodeConfig = CONFIG, threads: int = 1) -> Job[EncodeConfig]:
    out.mkdir()
    artifacts = {role: [Artifact(path, "", role, "all", "", None, {}, {})] for role, path in inputs.items()}
    return Job(
        name="all", stage="encode", config=config, identity={}, axis="de-en", axis_value={}, inputs=artifacts, files={},
        out=out, resumable_from=[], attempts=1, threads=threads, device="cpu", machine={}, progress=Progress(None),
    )  # fmt: skip


def test_a_data_folder_is_whole_and_counted(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    work = job(inputs, tmp_path / "out")
    Encode().run(work)
    summary = Encode().check(work)
    assert summary.counts["pairs in"] == 201
    assert (summary.counts["pairs out"], summary.dropped) == (200, {"too many pieces": 1})
    assert (summary.counts["dev pairs"], summary.counts["folders"]) == (20, 1)
    files = {path.name for path in work.out.iterdir()}
    assert {"dict.source.txt", "dict.target.txt", "dict.txt", "vocabulary.model"} < files
    assert not [name for name in files if "part" in name or "tmp" in name]


def test_a_folder_that_is_gone_is_missed(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    work = job(inputs, tmp_path / "out", replace(CONFIG, folder_pairs=101), threads=2)
    Encode().run(work)
    assert Encode().check(work).counts["folders"] == 2
    shutil.rmtree(data_folder(work.out, 1))
    with pytest.raises(IncompleteArtifact, match="1 of 2 folders"):
        Encode().check(work)


def test_each_pass_is_a_folder(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    sampling = SamplingConfig(alpha=0.5, seed=1)
    work = job(inputs, tmp_path / "out", replace(CONFIG, max_pieces=40, passes=3, sampling=sampling))
    Encode().run(work)
    counts = Encode().check(work).counts
    assert (counts["folders"], counts["pairs in"], counts["pairs out"]) == (3, 603, 603)
    # Dev text is never cut at random.
    plain = job(inputs, tmp_path / "plain", replace(CONFIG, max_pieces=40))
    Encode().run(plain)
    for path in plain.out.glob("valid.*"):
        assert path.read_bytes() == (work.out / path.name).read_bytes()


def test_several_targets_are_passes_of_their_own(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    origin = Origin("de-en", "made_up")
    with CorpusWriter(tmp_path / "top", ("de", "en"), 50, ("rank", "target_2"), origins=[origin]) as writer:
        for pair in origin.number(PAIRS):
            writer.add(pair, "0", "doors")
    work = job({**inputs, "corpus": tmp_path / "top"}, tmp_path / "out")
    Encode().run(work)
    counts = Encode().check(work).counts
    assert (counts["folders"], counts["pairs in"], counts["pairs out"]) == (2, 400, 400)
    assert counts["target pieces"] < 400 * 10


def test_nothing_short_enough_is_said(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encode\.max_pieces"):
        Encode().run(job(inputs, tmp_path / "out", replace(CONFIG, max_pieces=1)))


def test_several_passes_without_sampling_are_refused() -> None:
    with pytest.raises(UserError, match="without sampling"):
        Encode().validate(replace(CONFIG, passes=2))


def test_settings_of_sampling_count_only_where_it_is_on() -> None:
    def identity(**changes: Any) -> Mapping[str, Any]:
        stage: Any = SimpleNamespace(config=replace(CONFIG, sampling=SamplingConfig(**changes)), axis=None, inputs={})
        [draft] = Encode().tasks(stage)
        return draft.identity

    assert identity(seed=1) == identity(seed=2) == identity(seed=1, nbest=4)
    assert identity(seed=1, alpha=0.1) != identity(seed=2, alpha=0.1)


def test_language_pairs_are_balanced_and_the_manifest_says_how(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    """Ten Danish pairs beside 200 German ones, half of what is drawn for each: a round repeats the Danish 20 times."""
    origin = Origin("da-en", "small")
    with CorpusWriter(tmp_path / "danish", ("da", "en"), 50, origins=[origin]) as writer:
        for pair in origin.number(PAIRS[:10]):
            writer.add(pair)
    write_heldout(tmp_path / "held_out", "de-en", {"dev": list(Origin("de-en", "made_up").number(PAIRS[:20]))})
    write_heldout(tmp_path / "held_out", "da-en", {"dev": list(origin.number(PAIRS[:5]))})
    balance = BalanceConfig(BalanceMethod.weights, weights={"de-en": 1, "da-en": 1})
    config = replace(CONFIG, folder_pairs=40, balance=balance)
    work = job({**inputs, "held_out": tmp_path / "held_out"}, tmp_path / "out", config)
    corpora = {"de-en": inputs["corpus"], "da-en": tmp_path / "danish"}
    artifacts = [Artifact(path, "", f"shard.{pair}", "all", "", pair, {}, {}) for pair, path in corpora.items()]
    work = replace(work, axis=None, inputs={**work.inputs, "corpus": artifacts})
    Encode().run(work)
    summary = Encode().check(work)
    assert summary.counts["folders"] == 10  # 20 of 200 in each
    assert (summary.counts["pairs in"], summary.counts["pairs out"], summary.counts["pairs drawn"]) == (211, 210, 400)
    assert summary.counts["dev pairs"] == 25
    assert summary.dropped == {"too many pieces": 1}
    assert summary.facts["balance"]["da-en"]["repetitions"] == 20
    assert summary.facts["note"].startswith("a round of 10 virtual epochs: de-en 5")


def test_unbalanced_pairs_are_counted_too_and_the_folder_says_which(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    """Many to one without tags: 200 German pairs and 10 Danish ones, each once an epoch."""
    origin = Origin("da-en", "small")
    with CorpusWriter(tmp_path / "danish", ("da", "en"), 50, origins=[origin]) as writer:
        for pair in origin.number(PAIRS[:10]):
            writer.add(pair)
    for name, kept in (("de-en", Origin("de-en", "made_up")), ("da-en", origin)):
        write_heldout(tmp_path / "held_out", name, {"dev": list(kept.number(PAIRS[:5]))})
    work = job({**inputs, "held_out": tmp_path / "held_out"}, tmp_path / "out")
    corpora = {"de-en": inputs["corpus"], "da-en": tmp_path / "danish"}
    artifacts = [Artifact(path, "", f"shard.{pair}", "all", "", pair, {}, {}) for pair, path in corpora.items()]
    work = replace(work, axis=None, inputs={**work.inputs, "corpus": artifacts})
    Encode().run(work)
    facts = Encode().check(work).facts
    pieces = {pair: each["target"] for pair, each in facts["balance"].items()}
    assert {pair: each["pairs"] for pair, each in facts["balance"].items()} == {"de-en": 200, "da-en": 10}
    assert facts["balance"]["da-en"]["token_share"] == pytest.approx(pieces["da-en"] / sum(pieces.values()))
    # A training of three times all pieces goes three times over each.
    assert [line.split(", ")[1] for line in in_words(facts["balance"], 3 * sum(pieces.values()))] == [
        "3.00 epochs of 200 pairs", "3.00 epochs of 10 pairs",
    ]  # fmt: skip
    assert read_languages(work.out) == Languages(
        ("de", "da"), ("en",), False, {"de-en": ("de", "en"), "da-en": ("da", "en")}
    )


def test_a_folder_of_one_pair_says_nothing_of_languages(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    """So that what is in stores stays what would be made today."""
    work = job(inputs, tmp_path / "out")
    Encode().run(work)
    assert not (work.out / "languages.json").exists()


def test_settings_of_balance_count_only_where_their_method_reads_them() -> None:
    def identity(pair: str | None, **changes: Any) -> Mapping[str, Any]:
        stage: Any = SimpleNamespace(config=replace(CONFIG, balance=BalanceConfig(**changes)), axis=pair, inputs={})
        [draft] = Encode().tasks(stage)
        return draft.identity

    unimax = BalanceMethod.unimax
    assert identity("de-en", method=unimax, budget=9) == identity(None) == identity(None, temperature=2.0)
    assert identity(None, method=unimax, budget=9) == identity(None, method=unimax, budget=9, temperature=2.0)
    assert identity(None, method=unimax, budget=9) != identity(None, method=unimax, budget=8)
