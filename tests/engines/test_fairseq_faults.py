"""When things go wrong in a training: NaN, a full disk, ranks that die or hang, signals in a bad moment."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.base.files import link_file
from kd.engines.fairseq import checkpoints, training
from kd.engines.fairseq.binary import IndexedReader, data_prefix
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.launching import Launch, TrainingFailed
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.precision import check_precision
from kd.engines.fairseq.watch import Watch, _broken
from kd.recipe.schema import CheckpointConfig, Metric, Precision

PATIENCE = 240.0  # seconds, of a machine that is busy with other things
TRAIN = (
    "import pickle, pathlib, sys; from kd.engines.fairseq import training; from kd.cli import _end_as_transient\n"
    "import signal; signal.signal(signal.SIGTERM, _end_as_transient)\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "training.train(pickle.loads(pathlib.Path(sys.argv[2]).read_bytes()), folder)"
)


@pytest.fixture(scope="module")
def short(spec: TrainSpec) -> TrainSpec:
    """A short training, validated by loss and saved each 10 updates."""
    checkpoint = CheckpointConfig(every=10, keep=3, average=1, metric=Metric.loss)
    config = replace(spec.config, checkpoint=checkpoint, max_update=20, validate_bleu=False, log_every=1)
    return replace(spec, config=config)


def with_config(spec: TrainSpec, **changes: object) -> TrainSpec:
    return replace(spec, config=replace(spec.config, **changes))


def updates(folder: Path) -> int:
    """The last update logged."""
    return max((entry["update"] for entry in training.read_metrics(folder / "metrics.jsonl")), default=0)


def equal_tensors(first: Path, second: Path) -> bool:
    """Whether two checkpoints have the same weights and moments, to the last bit."""
    import torch

    def tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
        if isinstance(value, torch.Tensor):
            return {name: value}
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {path: each for key, inner in items for path, each in tensors(inner, f"{name}/{key}").items()}

    one, two = ({part: load(path)[part] for part in ("model", "last_optimizer_state")} for path in (first, second))
    ours, theirs = tensors(one), tensors(two)
    assert len(ours) > 30
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- numbers that are none -------------------------------------------------------------------------------------------


def test_nan_is_reported_with_its_sentences(short: TrainSpec, task, tmp_path: Path) -> None:
    """The embedding of one piece becomes NaN; the first update that sees it ends the training, and names its passes."""
    import torch

    untied = replace(short.config.model, tie_embeddings=False, dropout=0.0)
    spec = with_config(short, model=untied)
    training.train(with_config(spec, max_update=10), tmp_path)
    last = checkpoints.numbered(tmp_path / "checkpoints")[0].path
    reader = IndexedReader(data_prefix(task.data, "train", "source"))
    sentences = [set(reader[number].tolist()) for number in range(len(reader))]
    # A piece that a few sentences have, so that not every pass is broken.
    counts = {piece: sum(piece in pieces for pieces in sentences) for piece in set().union(*sentences)}
    piece = min((piece for piece in counts if counts[piece] >= 3), key=lambda piece: (counts[piece], piece))
    state = load(last)
    state["model"]["encoder.embed_tokens.weight"][piece] = float("nan")
    torch.save(state, last)
    (tmp_path / "checkpoints" / "checkpoint_last.pt").unlink()
    link_file(last, tmp_path / "checkpoints" / "checkpoint_last.pt")
    with pytest.raises(UserError, match=r"broke down at update \d+: .*nan.*a NaN loss contained") as caught:
        training.train(with_config(spec, max_update=200), tmp_path)
    named = re.search(r"the sentences ([\d, ]+)", str(caught.value))
    assert named
    assert any(piece in sentences[int(number)] for number in named[1].split(","))
    assert not list((tmp_path / "checkpoints").glob("crash*"))


class _Trainer:
    """What `_broken` asks of fairseq's trainer."""

    data_parallel_world_size = 1

    def get_num_updates(self) -> int:
        return 41


def test_a_loss_scale_at_its_bottom_ends_the_training(task, spec: TrainSpec) -> None:
    """Feed fairseq's own scaler with overflows until it fails, and check the watch's error."""
    import torch

    from kd.engines.fairseq import compat

    compat.install()
    from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler

    from kd.engines.fairseq import watch as watching

    scaler = DynamicLossScaler(init_scale=1.0, min_loss_scale=0.2)

    class Trainer(_Trainer):
        cfg = type("cfg", (), {"common": type("common", (), {"amp": False})})

        def train_step(self, samples: object, raise_oom: bool = False) -> None: ...

        def load_checkpoint(self, *arguments: object) -> None: ...

        def clip_grad_norm(self, clip_norm: float) -> float:
            scaler.check_overflow(float("inf"))
            return 0.0

    watch = Watch()
    original = watching._note_passes
    watching._note_passes = lambda _: None  # which would change fairseq for the tests that follow
    try:
        watching.install(Trainer, watch)
    finally:
        watching._note_passes = original
    watch.passes.append((torch.tensor([7, 5]), torch.tensor(1.0)))
    with pytest.raises(OverflowError):  # which fairseq takes as: skip this batch
        Trainer().clip_grad_norm(0.0)
    with pytest.raises(UserError, match=r"update 42: Minimum loss scale reached \(0\.2\).*sentences 5, 7 ") as caught:
        for _ in range(5):
            try:
                Trainer().clip_grad_norm(0.0)
            except OverflowError:
                continue
    assert "another precision" in caught.value.hint


def test_only_passes_without_a_number_are_named() -> None:
    import torch

    watch = Watch()
    good, bad = torch.tensor([1, 2]), torch.tensor([9, 3])
    watch.passes += [(good, torch.tensor(1.5)), (bad, torch.tensor(float("inf")))]
    told = str(_broken(_Trainer(), watch, "The gradient's norm is inf"))
    assert "the sentences 3, 9 of" in told
    watch.passes[1] = (bad, torch.tensor(2.5))  # the gradient alone is broken: it may be any of them
    assert "It had the sentences 1, 2, 3, 9 of" in str(_broken(_Trainer(), watch, "The gradient's norm is inf"))


# --- a full disk -----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_and_the_last_complete_checkpoint_is_kept(short: TrainSpec, tmp_path: Path) -> None:
    """A file system with room for one and a half checkpoints; a limit on file sizes if it cannot be mounted."""
    folder, saved = tmp_path / "small", tmp_path / "saved"
    folder.mkdir()
    (tmp_path / "spec").write_bytes(pickle.dumps(short))
    size = 2_600_000  # bytes; a checkpoint has 1.7 million
    python = shlex.join([sys.executable, "-c", TRAIN, str(folder), str(tmp_path / "spec")])
    mount = f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(folder))}"
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounts = subprocess.run([*namespace, mount], capture_output=True, check=False).returncode == 0
    if mounts:
        script = f"{mount} && {python}; status=$?; cp -a {folder} {saved}; exit $status"
        command, reason = [*namespace, script], errno.ENOSPC
    else:
        command = [
            "sh",
            "-c",
            f"(ulimit -f {size // 512 // 2}; {python}); status=$?; cp -a {folder} {saved}; exit $status",
        ]
        reason = errno.EFBIG
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.strip().split("\n")[-1].startswith(f"OSError: [Errno {reason}]")
    whole = checkpoints.numbered(saved / "checkpoints")
    if mounts:
        assert [each.updates for each in whole] == [10]
    assert checkpoints.resume_point(saved / "checkpoints").set_aside == ()  # nothing half-written
    assert not list((saved / "checkpoints").glob("*.tmp"))


# --- ranks -----------------------------------------------------------------------------------------------------------


def rank(number: int, folder: Path) -> int:
    """The process id of a rank of the training in a folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(folder).encode() in command and b"RANK=%d" % number in environment:
            return int(entry.name)
    raise AssertionError(f"rank {number} is not there")


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Work that fails, and its error."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_rank_that_dies_or_hangs_ends_the_training(short: TrainSpec, tmp_path: Path, number: int) -> None:
    spec = with_config(replace(short, world_size=2), max_update=100_000, stall_minutes=0.1)
    thread, raised = in_thread(lambda: training.train(spec, tmp_path, threads=2))
    deadline = time.monotonic() + PATIENCE
    while updates(tmp_path) < 2:
        assert thread.is_alive(), raised
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(rank(1, tmp_path), number)
    thread.join(PATIENCE)  # a hang: 6 s until another rank is tired of waiting, and torchrun's 30 s for the stopped one
    assert not thread.is_alive()
    [error] = raised
    if number == signal.SIGKILL:
        assert isinstance(error, TrainingFailed)
        assert "rank 1 was killed (SIGKILL)" in str(error)
    else:
        assert isinstance(error, TransientError)
        assert "made no progress for 0.1 minutes" in str(error)
    assert str(tmp_path / "train.rank-1.log") in str(error)
    assert (tmp_path / "train.rank-1.log").is_file()
    with pytest.raises(AssertionError):
        rank(1, tmp_path)  # none is left over


def test_the_error_of_a_failed_rank_is_read_from_its_own_log(
    short: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "train.rank-1.log"
    log.write_text("torch.OutOfMemoryError: CUDA out of memory, of an earlier attempt\n", "utf-8")
    words = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"

    def dying(words: str) -> None:
        code = f"import sys; open({str(log)!r}, 'a').write({words!r} + chr(10)); sys.exit(1)"
        monkeypatch.setattr(Launch, "command", [sys.executable, "-c", code])
        training.train(short, tmp_path)

    with pytest.raises(TrainingFailed):
        dying("something else")
    with pytest.raises(UserError, match=r"GPU ran out of memory.*batch\.max_tokens"):
        dying(words)


# --- signals ---------------------------------------------------------------------------------------------------------


def stopped_in_a_validation(spec: TrainSpec, folder: Path, number: int) -> bytes:
    """Train in another process, send it a signal when its first validation begins, and return its last words."""
    folder.mkdir()
    (folder / "spec").write_bytes(pickle.dumps(spec))
    command = [sys.executable, "-c", TRAIN, str(folder), str(folder / "spec")]
    log = folder / "train.log"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (log.is_file() and "begin validation" in log.read_text("utf-8")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(number)
            return process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_in_the_last_validation_loses_no_update(short: TrainSpec, tmp_path: Path, number: int) -> None:
    spec = with_config(short, validate_bleu=True, max_update=10)
    killed = tmp_path / "killed"
    stopped_in_a_validation(spec, killed, number)
    [saved] = checkpoints.numbered(killed / "checkpoints")
    assert saved.updates == 10 and load(saved.path)["extra_state"]["kd"]["undone"]
    assert not [entry for entry in training.read_metrics(killed / "metrics.jsonl") if entry["split"] == "dev"]
    resumed = training.train(spec, killed)
    assert (resumed.resumed_from, resumed.updates) == (10, 10)
    entries = list(training.read_metrics(killed / "metrics.jsonl"))
    assert [entry["update"] for entry in entries if entry["split"] == "dev"] == [10]
    assert max(entry["update"] for entry in entries) == 10
    log = (killed / "train.log").read_text("utf-8")
    training.train(spec, killed)  # complete: no process is started
    assert (killed / "train.log").read_text("utf-8") == log


def test_an_interrupted_validation_is_made_when_the_training_resumes(short: TrainSpec, tmp_path: Path) -> None:
    spec = with_config(short, validate_bleu=True)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert b"StopRequested" in stopped_in_a_validation(spec, killed, signal.SIGTERM)
    [saved] = checkpoints.numbered(killed / "checkpoints")
    state = load(saved.path)["extra_state"]["kd"]
    assert saved.updates == 10
    assert (state["undone"]["end_of_epoch"], state["validations"]) == (False, [])
    training.train(spec, killed)
    training.train(spec, whole)
    names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (killed, whole)]
    assert names[0] == names[1]
    assert all(equal_tensors(killed / "checkpoints" / name, whole / "checkpoints" / name) for name in names[0])
    dev = [
        [(entry["update"], entry["loss"], entry["bleu"]) for entry in training.read_metrics(folder / "metrics.jsonl")
         if entry["split"] == "dev"]
        for folder in (killed, whole)
    ]  # fmt: skip
    assert dev[0] == dev[1]
    assert len(dev[0]) == 2


def test_on_other_devices_it_goes_on_where_it_was_in_the_data(short: TrainSpec, tmp_path: Path) -> None:
    """An update is two passes: of one process after the other, or of two side by side. Both see the same data."""
    one, two = replace(short, update_freq=2), replace(short, update_freq=1, world_size=2)
    training.train(one, tmp_path / "whole")
    training.train(with_config(one, max_update=10), tmp_path / "moved")
    assert training.train(two, tmp_path / "moved").resumed_from == 10
    tokens = [
        [line["target_tokens"] for line in training.read_metrics(folder / "metrics.jsonl") if line["split"] == "train"]
        for folder in (tmp_path / "whole", tmp_path / "moved")
    ]
    assert len(set(tokens[0])) > 5
    assert tokens[0] == tokens[1]


# --- precision -------------------------------------------------------------------------------------------------------


def test_bf16_resumes_bit_exactly(short: TrainSpec, tmp_path: Path) -> None:
    """fairseq saves the rounded weights alone; going on from those is another training."""
    spec = with_config(short, precision=Precision.bf16)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    training.train(spec, whole)
    training.train(with_config(spec, max_update=10), parts)
    training.train(spec, parts)
    assert equal_tensors(*(folder / "checkpoints" / "checkpoint_last.pt" for folder in (whole, parts)))
    embedding = load(whole / "checkpoints" / "checkpoint_last.pt")["model"]["encoder.embed_tokens.weight"]
    assert not embedding.equal(embedding.bfloat16().float())  # the weights that were optimised, not a rounded copy


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"precision is fp16.*machine\.device is cpu"):
        check_precision(Precision.fp16, "cpu")
    for precision in Precision:
        check_precision(precision, "cuda")
        check_precision(precision, "rocm")
