"""The stage encode: what it leaves is whole and counted, what cannot work is refused before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.config import EncodeConfig, SamplingConfig, VocabularyConfig
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin
from kd.corpora.shards import CorpusWriter
from kd.engines import vocabulary
from kd.engines.fairseq.binary import data_folder
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Artifact, Job
from kd.pipeline.progress import Progress
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
        out=out, kin=[], attempts=1, threads=threads, device="cpu", machine={}, progress=Progress(None),
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


def test_nothing_short_enough_is_said(inputs: Mapping[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"encode\.max_pieces"):
        Encode().run(job(inputs, tmp_path / "out", replace(CONFIG, max_pieces=1)))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"max_pieces": 0}, "max_pieces"),
        ({"folder_pairs": 0}, "folder_pairs"),
        ({"passes": 2}, "without sampling"),
        ({"sampling": SamplingConfig(alpha=1.5, seed=1)}, "alpha"),
        ({"sampling": SamplingConfig(alpha=0.5, nbest=1, seed=1)}, "nbest"),
    ],
)
def test_impossible_wishes_are_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        Encode().validate(replace(CONFIG, **changes))


def test_settings_of_sampling_count_only_where_it_is_on() -> None:
    def identity(**changes: Any) -> Mapping[str, Any]:
        stage: Any = SimpleNamespace(config=replace(CONFIG, sampling=SamplingConfig(**changes)))
        [draft] = Encode().tasks(stage)
        return draft.identity

    assert identity(seed=1) == identity(seed=2) == identity(seed=1, nbest=4)
    assert identity(seed=1, alpha=0.1) != identity(seed=2, alpha=0.1)
