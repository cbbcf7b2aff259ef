"""Counting and reading corpora before they are collected."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from kd.models.known import Known
from kd.pipeline.store import Store
from kd.planning.sample import look
from kd.recipe import compose

LINES = [f"line {number} with some words" for number in range(1234)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


def corpus(folder: Path, suffix: str) -> list[str]:
    """A corpus of two files; returns the overrides of recipe=files."""
    packed = {"": TEXT, ".gz": gzip.compress(TEXT), ".zst": zstandard.compress(TEXT)}[suffix]
    for side in ("aa", "bb"):
        (folder / f"corpus.{side}{suffix}").write_bytes(packed)
    return [f"source={folder}/corpus.aa{suffix}", f"target={folder}/corpus.bb{suffix}"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_pairs_are_counted_in_the_files(tmp_path: Path, suffix: str) -> None:
    files = corpus(tmp_path, suffix)
    plan = compose.plan(compose.compose(compose.parse_request(["recipe=files", *files, f"store.dir={tmp_path}/store"])))
    found = look(plan, Store(tmp_path / "store"), 100)
    (pairs,) = found.collected.values()
    assert (pairs.value, pairs.source) == (1234, "counted in the files")
    assert found.pairs == [(line, line) for line in LINES[:100]]
    assert found.data_in.value == sum(path.stat().st_size for path in tmp_path.glob("corpus.*"))


def test_files_that_take_too_long_to_count_are_estimated_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd.planning.sample._COUNT_SECONDS", -1.0)
    monkeypatch.setattr("kd.planning.sample._CHUNK", 4096)
    files = corpus(tmp_path, "")
    plan = compose.plan(compose.compose(compose.parse_request(["recipe=files", *files, f"store.dir={tmp_path}/store"])))
    (pairs,) = look(plan, Store(tmp_path / "store"), 10).collected.values()
    assert pairs.value == pytest.approx(1234, rel=0.1) and "estimated" in pairs.source


def test_a_finished_collection_is_work_of_the_pairs_that_it_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = compose.plan(compose.compose(compose.parse_request(["recipe=files", *corpus(tmp_path, "")])))
    (collect,) = [stage for stage in plan.stages if stage.spec.name == "collect"]
    (task,) = collect.tasks
    known = Known(400, done={task: {"counts": {"pairs in": 1234, "pairs out": 1200}}})
    known.add(collect)
    work = known.work(task)
    assert work is not None and work.has_amount and work.work[0].amount.value == 1200
    assert known.texts[collect].pairs.source == "counted in finished tasks"
