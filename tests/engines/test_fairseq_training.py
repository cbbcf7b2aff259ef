"""Training: it learns, resumes bit-exactly after any interruption, continues shorter ones, and explains failures."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd.base.errors import TransientError, UserError
from kd.base.progress import Progress, read
from kd.engines.fairseq import checkpoints, training
from kd.engines.fairseq.average import average
from kd.engines.fairseq.binary import IndexedReader, data_folder, data_folders, data_prefix
from kd.engines.fairseq.flags import TrainSpec, arguments, readable
from kd.engines.fairseq.launching import Launch, TrainingFailed
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.training import TrainingProgress
from kd.models.training_log import read_metrics
from kd.stages.training import _tell
from tests.moments import random_moments
from tests.tiny_model import write_split

END = 40  # updates of the short trainings below


@pytest.fixture(scope="module")
def short(spec: TrainSpec) -> TrainSpec:
    """A short training with accumulation, a checkpoint each 10 updates and each update logged."""
    config = replace(
        spec.config,
        checkpoint=replace(spec.config.checkpoint, every=10, keep=10),
        max_update=END,
        validate_bleu=False,
        log_every=1,
    )
    return replace(spec, config=config, update_freq=2)


@pytest.fixture(scope="module")
def uninterrupted(short: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the short training, run in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    training.train(short, folder)
    return folder


def tensors(value: object, name: str = "") -> dict[str, object]:
    """All tensors inside nested dicts and lists, by path."""
    import torch

    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found: dict[str, object] = {}
    for key, inner in items:
        found |= tensors(inner, f"{name}/{key}")
    return found


def assert_equal_states(first: Path, second: Path) -> None:
    """Every weight and every tensor of the optimiser is the same, to the last bit."""
    import torch

    one, two = (load(folder / "checkpoints" / "checkpoint_last.pt") for folder in (first, second))
    for part in ("model", "last_optimizer_state"):
        ours, theirs = tensors(one[part]), tensors(two[part])
        assert len(ours) > 30
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert one["extra_state"]["train_iterator"] == two["extra_state"]["train_iterator"]


def train_lines(folder: Path) -> list[dict]:
    return [entry for entry in read_metrics(folder / "metrics.jsonl") if entry["split"] == "train"]


def without_time(entries: list[dict]) -> list[dict]:
    timed = ("seconds", "tokens_per_second", "saving_share", "validating_share")
    return [{key: entry[key] for key in entry if key not in timed} for entry in entries]


# --- learning ------------------------------------------------------------------------------------------------------


def test_it_learns_the_task(trained) -> None:
    entries = list(read_metrics(trained.folder / "metrics.jsonl"))
    dev = [entry for entry in entries if entry["split"] == "dev"]
    assert [entry["update"] for entry in dev] == [100, 200, 300, 400]
    assert dev[-1]["bleu"] > 30  # 62 to 76 with five seeds on two CPUs; an untrained model has less than 1
    assert dev[-1]["loss"] < dev[0]["loss"]
    assert [entry["update"] for entry in entries if entry["split"] == "train"] == list(range(10, 401, 10))
    lines = train_lines(trained.folder)
    assert all(entry[name] > 0 for entry in lines for name in ("tokens_per_second", "lr", "gnorm"))


def test_it_tells_how_far_it_is(trained) -> None:
    updates = [moment.update for moment in trained.progress]
    assert updates == sorted(updates)
    assert (updates[0], updates[-1]) == (0, 400)
    assert all(moment.max_update == 400 for moment in trained.progress)
    assert trained.progress[-1].dev_bleu > 30
    assert trained.progress[-1].seconds_left == 0
    assert trained.progress[5].seconds_left > 0


def test_progress_shows_validation(trained) -> None:
    told = [(moment.update, moment.validating) for moment in trained.progress]
    assert [update for update, validating in told if validating] == [100, 200, 300, 400]
    assert told[-1] == (400, False)  # until its numbers are there


def test_progress_marks_a_validation_without_time_left(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    job: Any = SimpleNamespace(progress=Progress(path))
    done = TrainingProgress(60, 60, seconds_left=0.0)
    for moment, line in ((done, "0 s left"), (replace(done, validating=True), "validating, 60/60 updates")):
        _tell(job, moment)
        snapshot = read(path)
        assert snapshot is not None and line in snapshot.line()
    assert "left" not in snapshot.line()


def test_progress_shows_utilisation_where_it_is_known(tmp_path: Path) -> None:
    for number, (share, shown) in enumerate(((0.384, "MFU 38%"), (None, ""))):
        path = tmp_path / f"{number}.json"
        job: Any = SimpleNamespace(progress=Progress(path))
        _tell(job, TrainingProgress(60, 100, mfu=share))
        snapshot = read(path)
        assert snapshot is not None and shown in snapshot.line()
    assert "MFU" not in snapshot.line()


def test_flags_are_stock_and_readable(trained, spec: TrainSpec) -> None:
    text = (trained.folder / "train.flags").read_text("utf-8")
    assert text == readable(arguments(spec, trained.folder / "checkpoints"))
    lines = text.split("\n")
    assert "--encoder-layers 2" in lines
    assert "--share-all-embeddings" in lines
    assert "--max-update 400" in lines


# --- going on ------------------------------------------------------------------------------------------------------


def run_and_kill(spec: TrainSpec, folder: Path, update: int, number: signal.Signals) -> None:
    """Train in another process, send it a signal when `update` is logged, and wait until it has stopped writing."""
    (folder / "spec.pickle").write_bytes(pickle.dumps(spec))
    program = (
        "import pickle, pathlib, sys; from kd.engines.fairseq import training\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "training.train(pickle.loads((folder / 'spec.pickle').read_bytes()), folder)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not [line for line in train_lines(folder) if line["update"] >= update]:
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        [child] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.send_signal(number)
        parent.wait()
        while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the training outlived the process that asked for it"
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_training_resumes_bit_exactly(
    short: TrainSpec, uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    update = random_moments().randrange(1, END - 15)
    run_and_kill(short, tmp_path, update, number)
    result = training.train(short, tmp_path)
    assert (update - 1) // 10 * 10 <= result.resumed_from < END  # an update is logged before it is saved
    assert result.updates == END
    assert_equal_states(uninterrupted, tmp_path)
    assert without_time(train_lines(tmp_path)) == without_time(train_lines(uninterrupted))


def test_validations_may_be_rarer_than_checkpoints(short: TrainSpec, uninterrupted: Path, tmp_path: Path) -> None:
    rarely = replace(
        short, config=replace(short.config, checkpoint=replace(short.config.checkpoint, validate_every=30))
    )
    run_and_kill(rarely, tmp_path, 25, signal.SIGTERM)
    result = training.train(rarely, tmp_path)
    dev = [entry["update"] for entry in read_metrics(tmp_path / "metrics.jsonl") if entry["split"] == "dev"]
    assert dev == [30, 40]  # and at the end
    assert [each.name for each in result.checkpoints] == [
        each.path.name for each in checkpoints.regular(uninterrupted / "checkpoints", 10, END)
    ]
    assert_equal_states(uninterrupted, tmp_path)


def test_an_interrupted_training_saves_what_it_did(short: TrainSpec, uninterrupted: Path, tmp_path: Path) -> None:
    def interrupt(moment: TrainingProgress) -> None:
        if moment.update >= 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(short, tmp_path, interrupt)
    saved = checkpoints.numbered(tmp_path / "checkpoints")[0].updates
    assert saved >= 15
    assert saved % 10 != 0 or saved > 20  # at the update it was at, not at the next regular one
    result = training.train(short, tmp_path)
    assert result.resumed_from == saved
    assert_equal_states(uninterrupted, tmp_path)
    regular = [each.name for each in result.checkpoints]
    assert regular == [each.path.name for each in checkpoints.regular(uninterrupted / "checkpoints", 10, END)]


def test_a_cut_checkpoint_is_not_resumed_from(short: TrainSpec, uninterrupted: Path, tmp_path: Path) -> None:
    training.continue_from(uninterrupted, tmp_path, END)
    newest = checkpoints.numbered(tmp_path / "checkpoints")[0].path
    whole = newest.read_bytes()
    newest.unlink()
    newest.write_bytes(whole[: len(whole) // 2])
    result = training.train(short, tmp_path)
    assert result.resumed_from == 30
    assert newest.name in result.notes[0]
    assert "continued from update 30" in result.notes[0]
    assert newest.with_name(newest.name + ".unreadable").is_file()
    assert_equal_states(uninterrupted, tmp_path)


def test_a_longer_training_continues_a_shorter_one(short: TrainSpec, uninterrupted: Path, tmp_path: Path) -> None:
    shorter = replace(short, config=replace(short.config, max_update=15))
    training.train(shorter, tmp_path / "short")
    assert training.continue_from(tmp_path / "short", tmp_path / "long", END) == 15
    result = training.train(short, tmp_path / "long")
    assert (result.resumed_from, result.updates) == (15, END)
    assert_equal_states(uninterrupted, tmp_path / "long")
    assert without_time(train_lines(tmp_path / "long")) == without_time(train_lines(uninterrupted))


def test_a_moving_average_of_the_weights_is_kept_resumed_and_averaged(short: TrainSpec, tmp_path: Path) -> None:
    """The average is computed again from the weights of each update: e = d e + (1 - d) w from the warm-up's end on."""
    import torch

    decay, start, last = 0.75, 3, 8
    config = replace(
        short.config,
        checkpoint=replace(short.config.checkpoint, every=1, keep=last, ema=decay),
        optimizer=replace(short.config.optimizer, warmup_updates=start),
        max_update=last,
    )
    spec = replace(short, config=config, update_freq=1)
    training.train(replace(spec, config=replace(config, max_update=5)), tmp_path / "part")
    assert training.continue_from(tmp_path / "part", tmp_path / "resumed", last) == 5
    training.train(spec, tmp_path / "resumed")
    training.train(spec, tmp_path / "whole")
    assert_equal_states(tmp_path / "whole", tmp_path / "resumed")
    paths = {name: tmp_path / name / "checkpoints" for name in ("whole", "resumed")}
    one, two = (tensors(load(path / "checkpoint_last.pt")["extra_state"]["ema"]) for path in paths.values())
    assert [name for name in one if "float_tensor" not in name and not torch.equal(one[name], two[name])] == []
    states = [load(path) for path in sorted(paths["whole"].glob("checkpoint_*_*.pt"), key=_update)]
    assert len(states) == last
    expected: dict[str, torch.Tensor] = {}
    for update, state in enumerate(states, 1):
        for name, weight in state["model"].items():
            old = expected.get(name, weight) if update >= start else weight
            expected[name] = old * decay + weight * (1 - decay) if update >= start else weight
            if "float_tensor" not in name and "version" not in name:
                assert torch.allclose(state["extra_state"]["ema"][name], expected[name], atol=1e-6), (update, name)
    average([paths["whole"] / "checkpoint_last.pt"], tmp_path / "model.pt")
    final = load(tmp_path / "model.pt")["model"]
    name = next(name for name in final if name.endswith("fc1.weight"))
    assert torch.equal(final[name], states[-1]["extra_state"]["ema"][name])
    assert not torch.equal(final[name], states[-1]["model"][name])


def _update(path: Path) -> int:
    return int(path.stem.rsplit("_", 1)[1])


def test_a_finished_training_does_nothing(
    short: TrainSpec, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_run", lambda *_: pytest.fail("a process was started"))
    result = training.train(short, shutil.copytree(uninterrupted, tmp_path / "finished"))
    assert (result.resumed_from, result.updates) == (END, END)


# --- several data folders ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data folder cut in two; only the first has the dev set and the dictionaries."""
    root = tmp_path_factory.mktemp("folders")
    second = data_folder(root, 1)
    second.mkdir()
    for path in task.data.iterdir():
        if not path.name.startswith("train"):
            (root / path.name).write_bytes(path.read_bytes())
    write_split(root, "train", task.train[:400], task.vocabulary)
    write_split(second, "train", task.train[400:700], task.vocabulary)
    assert data_folders(root) == (root, second)
    return root, second


@pytest.fixture(scope="module")
def over_folders(short: TrainSpec, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short training over both folders."""
    folder = tmp_path_factory.mktemp("over_folders")
    training.train(replace(short, data=folders, update_freq=1), folder)
    return folder


def test_each_epoch_reads_the_next_folder(over_folders: Path, folders: tuple[Path, Path]) -> None:
    lines = train_lines(over_folders)
    read = {epoch: sum(line["tokens_per_update"] for line in lines if line["epoch"] == epoch) for epoch in (1, 2, 3)}
    there = [IndexedReader(data_prefix(folder, "train", "target")).pieces for folder in folders]
    assert there[0] != there[1]
    assert read == {1: there[0], 2: there[1], 3: there[0]}


def test_a_resumed_training_goes_on_in_the_folder_where_it_was(
    short: TrainSpec, over_folders: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    epochs = [line["epoch"] for line in train_lines(over_folders)]
    border = epochs.count(1)  # the last update of the first folder
    for end in (border, border + 3, END):
        config = replace(short.config, max_update=end)
        training.train(replace(short, config=config, data=folders, update_freq=1), tmp_path)
    assert_equal_states(tmp_path, over_folders)
    assert without_time(train_lines(tmp_path)) == without_time(train_lines(over_folders))


def test_stock_fairseq_reads_the_folders_alike(
    short: TrainSpec, over_folders: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = replace(short, data=folders, update_freq=1)
    done = subprocess.run(
        [sys.executable, "-m", "kd.engines.fairseq", "fairseq-train", *arguments(spec, tmp_path), "--no-save"],
        capture_output=True,
        text=True,
        check=True,
    )
    logged = [json.loads(line.partition("| train_inner | ")[2]) for line in done.stderr.split("\n") if "_inner" in line]
    ours = [(line["epoch"], line["loss"], line["tokens_per_update"]) for line in train_lines(over_folders)]
    assert [(int(line["epoch"]), float(line["loss"]), float(line["wpb"])) for line in logged] == ours


def test_two_processes_train_as_one(short: TrainSpec, tmp_path: Path) -> None:
    """An update has two passes: one after the other in one process, or side by side in two."""
    model = replace(short.config.model, dropout=0.0)  # each process would draw masks of its own
    spec = replace(short, config=replace(short.config, model=model, max_update=10))
    training.train(replace(spec, update_freq=2), tmp_path / "one")
    training.train(replace(spec, update_freq=1, world_size=2), tmp_path / "two")
    one, two = train_lines(tmp_path / "one"), train_lines(tmp_path / "two")
    assert len(one) == len(two) == 10
    for first, second in zip(one, two, strict=True):
        assert first["target_tokens"] == second["target_tokens"]
        assert (first["devices"], second["devices"]) == (1, 2)
        assert first["loss"] == pytest.approx(second["loss"], rel=0.002)  # sums in another order


# --- checkpoints on disk -------------------------------------------------------------------------------------------


def test_old_checkpoints_go_and_irregular_ones_before_them(tmp_path: Path) -> None:
    for epoch, updates in ((1, 20), (1, 33), (2, 40), (2, 60), (3, 71)):
        (tmp_path / checkpoints.name(epoch, updates)).touch()
    checkpoints.prune(tmp_path, every=20, keep=2)
    assert [each.updates for each in checkpoints.numbered(tmp_path)] == [71, 60, 40]


def test_the_last_checkpoint_is_another_name_of_the_newest(uninterrupted: Path) -> None:
    folder = uninterrupted / "checkpoints"
    assert (folder / "checkpoint_last.pt").samefile(checkpoints.numbered(folder)[0].path)
    assert [each.updates for each in checkpoints.numbered(folder)] == [40, 30, 20, 10]


# --- dying ---------------------------------------------------------------------------------------------------------


def test_a_training_that_dies_shows_its_last_lines(short: TrainSpec, tmp_path: Path) -> None:
    broken = replace(short, data=(tmp_path / "nothing",))
    with pytest.raises(TrainingFailed) as caught:
        training.train(broken, tmp_path / "out")
    assert str(tmp_path / "out" / "train.log") in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)


def test_a_missing_gpu_is_one_sentence(short: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="No CUDA device"):
        training.train(replace(short, device="cuda"), tmp_path)


def last_words(line: str, status: int = 1) -> list[str]:
    """A process that writes a line and dies."""
    return [sys.executable, "-c", f"import sys; print({line!r}); sys.exit({status})"]


def test_known_deaths_are_named(short: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(line: str, status: int = 1) -> None:
        monkeypatch.setattr(Launch, "command", last_words(line, status))
        training.train(short, tmp_path)

    with pytest.raises(OSError) as full:
        dying("OSError: [Errno 28] No space left on device")
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(UserError, match=r"GPU ran out of memory.*batch\.max_tokens"):
        dying("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(TransientError):
        dying("stopped by a signal at update 12", 75)
    kill = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.SIGKILL})"]
    monkeypatch.setattr(Launch, "command", kill)
    with pytest.raises(TrainingFailed, match="SIGKILL"):
        training.train(short, tmp_path)


def test_metrics_drop_updates_that_are_repeated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"split": "train", "update": n, "seconds": n * 1.0, "tokens_per_update": 100.0} for n in (10, 20, 30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"split": "tr')
    training.Metrics(path, resumed_from=20, max_update=100, progress=lambda _: None)
    assert [entry["update"] for entry in read_metrics(path)] == [10, 20]
