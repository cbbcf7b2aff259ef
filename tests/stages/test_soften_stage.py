"""The stage that stores token distributions: it splits the work, resumes, and checks what it wrote."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.estimate import Estimate
from kd.base.progress import Progress
from kd.engines.fairseq.binary import IndexedReader, IndexedWriter, write_runs
from kd.engines.fairseq.distributions import FolderDistributions, blocks_in
from kd.engines.fairseq.soften import Part, Softener
from kd.models.known import Known, Text
from kd.models.transformer import training_flops
from kd.pipeline.forecast import TaskWork
from kd.pipeline.model import Artifact, Job
from kd.pipeline.plan import Plan
from kd.recipe import compose
from kd.recipe.schema import SoftenConfig
from kd.stages.soften import Soften
from tests.tiny_model import Task, Trained


@pytest.fixture(scope="module")
def data(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny task's data with the dictionary that the stage `encode` puts beside it."""
    folder = tmp_path_factory.mktemp("encoded") / "data"
    shutil.copytree(task.data, folder)
    shutil.copy(task.vocabulary_folder / "dict.txt", folder)
    return folder


def job(out: Path, data: Path, teachers: list[Path], worker: int = 0, **changes: Any) -> Job[SoftenConfig]:
    """One of two workers, in shards of 400 sentences."""
    out.mkdir(exist_ok=True)
    encoded = Artifact(data, "data", "encode_selected", "all", "f", "en-de", {}, {})
    models = [Artifact(path, "teachers", "teacher", path.name, "f", "en-de", {}, {"facts": {}}) for path in teachers]
    values: dict[str, Any] = {
        "name": f"worker-{worker}", "stage": "soften.en-de", "axis": "en-de", "axis_value": {},
        "config": SoftenConfig(top=4, temperature=1.0, workers=2, batch_tokens=1000, shard=400),
        "identity": {"worker": worker}, "files": {}, "out": out, "resumable_from": [], "attempts": 1, "threads": 1,
        "device": "cpu", "machine": {}, "progress": Progress(None),
        "inputs": {"data": [encoded], "teachers": models}, **changes,
    }  # fmt: skip
    return Job(**values)


def run(of: Job[SoftenConfig]) -> dict[str, int | float]:
    Soften().run(of)
    return Soften().check(of).counts


@pytest.fixture(scope="module")
def teachers(trained: Trained, second: Path) -> list[Path]:
    return [trained.folder, second]


@pytest.fixture(scope="module")
def stored(data: Path, teachers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What both workers stored."""
    folders = [tmp_path_factory.mktemp("softened") / str(worker) for worker in range(2)]
    counts = [run(job(folder, data, teachers, worker)) for worker, folder in enumerate(folders)]
    assert [each["sentences"] for each in counts] == [1500, 1500]
    pieces = IndexedReader(data / "train.source-target.target").pieces
    assert sum(each["target pieces"] for each in counts) == pieces
    return folders


def test_the_workers_store_every_position_once(data: Path, stored: list[Path]) -> None:
    assert [len(blocks_in(folder)) for folder in stored] == [4, 4]  # shards of 400, 400, 400 and 300 sentences
    size = sum(path.stat().st_size for folder in stored for path in folder.iterdir() if path.suffix != ".json")
    assert size == IndexedReader(data / "train.source-target.target").pieces * 4 * (2 + 2)
    ids, probabilities = FolderDistributions(data, data, stored).batch(range(3000), 40)
    assert ids.max() < 300
    assert 0.5 < probabilities.sum(-1)[:, 0].mean() <= 1  # teachers that have learnt the task are sure of little else


def test_a_worker_goes_on_with_the_block_that_is_missing(
    data: Path, teachers: list[Path], stored: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stored[0], copy)
    blocks = blocks_in(copy)
    (copy / f"{blocks[1].name}.json").unlink()  # it died before this block was complete
    (copy / f"{blocks[2].name}.ids").write_bytes(b"cut")
    written = []
    write = Softener.write

    def noted(self: Softener, part: Part, *rest: Any) -> None:
        written.append(part.block)
        write(self, part, *rest)

    monkeypatch.setattr(Softener, "write", noted)
    run(job(copy, data, teachers))
    assert written == [blocks[1], blocks[2]]
    for block in blocks:
        for mine, theirs in zip(block.rows(copy), block.rows(stored[0]), strict=True):
            assert np.array_equal(mine, theirs)


def test_each_sentence_is_read_by_the_teachers_of_its_language_pair(
    data: Path, teachers: list[Path], stored: list[Path], tmp_path: Path
) -> None:
    """Two pairs share the data, in runs that no shard boundary respects; each has one teacher of its own."""
    mixed = tmp_path / "mixed"
    shutil.copytree(data, mixed)
    write_runs(mixed, [("de-en", 700), ("nl-en", 1000), ("de-en", 900), ("nl-en", 400)])
    models = [
        Artifact(path, "teachers", f"teacher.{axis}", "member-1", "f", axis, {}, {"facts": {}})
        for axis, path in zip(("de-en", "nl-en"), teachers, strict=True)
    ]
    folders = [tmp_path / str(worker) for worker in range(2)]
    for worker, folder in enumerate(folders):
        this = job(folder, mixed, teachers, worker)
        run(replace(this, inputs={**this.inputs, "teachers": models}))
    alone = {}
    for axis, path in zip(("de-en", "nl-en"), teachers, strict=True):
        of_pair = [tmp_path / f"{axis}-{worker}" for worker in range(2)]
        for worker, folder in enumerate(of_pair):
            run(job(folder, data, [path], worker))
        alone[axis] = FolderDistributions(data, data, of_pair).batch(range(3000), 40)
    ids, probabilities = FolderDistributions(mixed, mixed, folders).batch(range(3000), 40)
    expected = np.array(["de-en"] * 700 + ["nl-en"] * 1000 + ["de-en"] * 900 + ["nl-en"] * 400)
    for axis, (_, theirs) in alone.items():
        own = expected == axis
        assert probabilities[own] == pytest.approx(theirs[own], abs=2e-3)  # fp16, in batches of other shapes
        other = next(rows for name, (_, rows) in alone.items() if name != axis)
        assert np.abs(probabilities[own] - other[own]).max() > 0.1
    assert len(ids) == 3000


def test_a_language_tag_is_taken_off_for_teachers_that_do_not_know_it(
    data: Path, teachers: list[Path], stored: list[Path], tmp_path: Path
) -> None:
    """The source of the tagged data begins with one more symbol; what is stored is the same as without it."""
    tagged = tmp_path / "tagged"
    shutil.copytree(data, tagged)
    plain = IndexedReader(data / "train.source-target.source")
    vocabulary = len((data / "dict.txt").read_text("utf-8").split("\n")) + 3
    with IndexedWriter(tagged / "train.source-target.source", vocabulary) as writer:
        writer.write([[7, *plain[number].tolist()[:-1]] for number in range(len(plain))])
    folders = [tmp_path / str(worker) for worker in range(2)]
    for worker, folder in enumerate(folders):
        this = job(folder, tagged, teachers, worker)
        [encoded] = this.inputs["data"]
        run(replace(this, inputs={**this.inputs, "data": [replace(encoded, settings={"tags": True})]}))
    _, found = FolderDistributions(tagged, tagged, folders).batch(range(3000), 40)
    _, expected = FolderDistributions(data, data, stored).batch(range(3000), 40)
    assert found == pytest.approx(expected, abs=2e-3)


def test_what_is_damaged_or_missing_is_not_published(
    data: Path, teachers: list[Path], stored: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(stored[0], copy)
    last = blocks_in(copy)[-1]
    file = copy / f"{last.name}.probabilities"
    file.write_bytes(b"\x00\x3c" * (file.stat().st_size // 2))  # each token with probability 1
    with pytest.raises(IncompleteArtifact, match="not distributions"):
        Soften().check(job(copy, data, teachers))
    for path in copy.glob(f"{last.name}.*"):
        path.unlink()
    with pytest.raises(IncompleteArtifact, match="does not have the expected blocks"):
        Soften().check(job(copy, data, teachers))


def test_teachers_of_another_vocabulary_are_refused(data: Path, teachers: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(teachers[0], other, ignore=shutil.ignore_patterns("checkpoints"))
    lines = (other / "dict.txt").read_text("utf-8").split("\n")
    (other / "dict.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]), "utf-8")
    with pytest.raises(UserError, match="teacher/other has another vocabulary than encode_selected"):
        run(job(tmp_path / "out", data, [teachers[0], other]))


def test_a_number_of_tokens_is_needed() -> None:
    with pytest.raises(UserError, match=r"soften.top is 0, .* Set student.distill.top to 8"):
        Soften().validate(SoftenConfig(top=0, temperature=1.0))


def test_the_forecast_is_one_forward_pass_of_each_teacher_and_32_bytes_a_token(tmp_path: Path) -> None:
    overrides = ["student.distill.alpha=0.5", "student.distill.top=8", "soften.workers=4"]
    arguments = ["recipe=demo", f"store.dir={tmp_path}/store", *overrides]
    live, stored = (
        compose.plan(compose.compose(compose.parse_request([*arguments, f"student.distill.stored={value}"])))
        for value in ("false", "true")
    )

    def work(planned: Plan, name: str) -> TaskWork:
        """Of 500 million pairs, 25 target pieces each and their ends."""
        known = Known(vocabulary=32_000)
        text = Text(Estimate(5e8), Estimate(22.0), Estimate(25.0))
        for stage in planned.stages:
            known.add(stage)
            known.texts[stage] = text
        [stage] = planned.find(name)
        forecast = known.work(stage.tasks[0])
        assert forecast is not None
        return forecast

    softened = work(stored, "soften")
    assert softened.work[0].amount.value == 5e8 * 26 / 4
    assert softened.kept is not None
    assert softened.kept.value == 5e8 * 26 / 4 * 32
    [teacher] = stored.find("teacher")
    one = training_flops(teacher.config.model, 32_000, 23.0, 26.0) / 3  # a third of training is the forward pass
    assert softened.work[0].cost == pytest.approx(2 * one)
    # Live teachers make each update of the student dearer by as much.
    dearer, plain = (work(planned, "student").work[0].cost for planned in (live, stored))
    assert dearer is not None and plain is not None
    assert dearer - plain == pytest.approx(2 * one)
