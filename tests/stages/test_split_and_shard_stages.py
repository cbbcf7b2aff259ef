"""Held-out sets and shards are the same for any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact
from kd.base.progress import Progress
from kd.corpora.heldout import HeldOutSet
from kd.corpora.ids import Origin, Pair
from kd.corpora.index import file_entry, write_json
from kd.corpora.shards import CorpusWriter
from kd.corpora.writing import LineWriter
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ShardConfig, SplitConfig
from kd.stages.shard import Shard
from kd.stages.split import SplitSets, _note


def job(out: Path, config: Any, inputs: dict[str, list[Artifact]], threads: int) -> Job[Any]:
    out.mkdir(parents=True)
    languages = {"source": "en", "target": "de"}
    return Job(
        "all", out.name, config, {}, "en-de", languages, inputs, {}, out, [], 1, threads, "cpu", {}, Progress(None)
    )


def artifact(folder: Path) -> Artifact:
    return Artifact(folder, "all", folder.name, "all", "f", "en-de", {}, {})


@pytest.fixture
def cleaned(tmp_path: Path) -> Artifact:
    origin = Origin("en-de", "web")
    rows = [(f"This is sentence {n % 150}.", f"Das ist Satz {n}.") for n in range(400)]
    with CorpusWriter(tmp_path / "clean", ("en", "de"), 60, origins=[origin]) as writer:
        for pair in origin.number(rows):
            writer.add(pair)
    return artifact(tmp_path / "clean")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sets_and_shards_depend_on_no_number_of_processes(
    tmp_path: Path, cleaned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("split", "shard"):
        monkeypatch.setattr(f"kd.stages.{module}.PROCESS_PAIRS", 50)
    made, summaries = [], []
    for threads in (1, 2):
        held_out, shards = tmp_path / f"split{threads}", tmp_path / f"shard{threads}"
        split = job(held_out, SplitConfig(5, 6, False, "source", 2, 1), {"corpora": [cleaned], "given": []}, threads)
        SplitSets().run(split)
        inputs = {"corpus": [cleaned], "held_out": [artifact(held_out)]}
        shard = job(shards, ShardConfig(40, 1, 1.0, "remove", 5), inputs, threads)
        Shard().run(shard)
        summaries.append((SplitSets().check(split), Shard().check(shard)))
        made.append((files(held_out), files(shards)))
    assert made[0] == made[1]
    assert summaries[0] == summaries[1]
    assert summaries[0][0].counts == {"dev pairs of en-de": 5, "test pairs of en-de": 6}
    drawn = "drawn from the training corpora"
    assert summaries[0][0].facts["note"] == f"held out: dev 5 ({drawn}), test 6 ({drawn})"


def test_the_note_says_which_sets_were_given() -> None:
    pairs = [Pair(1, "One sentence.", "Ein Satz.")]

    def held(pair: str, use: str, size: int, *, drawn: bool) -> HeldOutSet:
        return HeldOutSet(pair, use, ("en", "de"), "source", drawn=drawn, corpus="", pairs=pairs * size)

    sets = [held("en-de", "test", 1200, drawn=False), held("en-de", "dev", 3, drawn=True)]
    sets += [held("en-fr", "test", 10, drawn=False), held("en-fr", "test", 2, drawn=True)]
    drawn = "drawn from the training corpora"
    assert _note(sets) == f"held out: dev 3 ({drawn}), test 1,210 (given), test 2 ({drawn})"


def test_a_held_out_sentence_in_a_shard_is_found_by_every_process(
    tmp_path: Path, cleaned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd.stages.shard.PROCESS_PAIRS", 50)
    held_out = tmp_path / "split"
    SplitSets().run(job(held_out, SplitConfig(5, 6, False, "source", 2, 1), {"corpora": [cleaned]}, 1))
    shard = job(tmp_path / "shard", ShardConfig(40, 1, 1.0, "remove", 5), {"corpus": [cleaned]}, 2)
    shard.inputs["held_out"] = [artifact(held_out)]
    with CorpusWriter(shard.out, ("en", "de"), 40, keep_groups=True) as writer:
        for pair in Origin("en-de", "web").number((f"This is sentence {n}.", "x") for n in range(150)):
            writer.add(pair)
    with LineWriter(shard.out / "leaked.tsv.zst") as sample:
        pass
    write_json(shard.out / "leakage.json", {"pairs": 0, "kinds": {}, "mode": "remove", "sample": file_entry(sample)})
    with pytest.raises(IncompleteArtifact, match="holds a source that is held out"):
        Shard().check(shard)
