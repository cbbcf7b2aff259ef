"""Trains a model in a subprocess and follows it: `metrics.jsonl`, live progress, resuming, and errors in plain words.

This is the side of the task that asks for a training; it imports neither torch nor fairseq. `train.py` is the other
side.
"""

from __future__ import annotations

import collections
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from kd.config import Metric, TrainConfig, Which
from kd.engines.fairseq import checkpoints
from kd.engines.fairseq.flags import TrainSpec, arguments, readable, validated_on
from kd.engines.fairseq.measures import GPU_MEMORY, SECONDS, TOKENS
from kd.engines.fairseq.train import STOPPED, USER_ERROR
from kd.engines.fairseq.watch import ENDED
from kd.errors import EXIT_TRANSIENT, TransientError, UserError
from kd.pipeline.atomic import write_json, write_text
from kd.pipeline.processes import die_with_parent

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
LOG = "train.log"
FLAGS = "train.flags"
SPEC = "train.spec.json"

GRACE = 30.0  # seconds that a training gets to save and leave when it is asked to
_LAST_LINES = 20
_ENDED = re.compile(re.escape(ENDED) + "(.*)$|Stopping training due to (cumulative_training_time.*)$")
_LOGGED = re.compile(r"\| (train_inner|valid) \| (\{.*\})$")  # fairseq's --log-format json


@dataclass(frozen=True)
class TrainingProgress:
    """A moment of a training; numbers are None until they have been logged."""

    update: int
    max_update: int
    epoch: int | None = None
    loss: float | None = None  # label-smoothed, bits a piece
    tokens_per_second: float | None = None  # target pieces
    seconds_left: float | None = None
    dev_loss: float | None = None
    dev_bleu: float | None = None
    gpu_memory: float | None = None  # GB that the last update took at most, of this process's GPU


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    updates: int  # done in all
    resumed_from: int  # updates that were there before this call
    seconds: float  # of this call
    checkpoints: tuple[Path, ...]  # those an uninterrupted training leaves, the newest first
    metrics: Path
    target_tokens: float | None  # measured mean target tokens an update
    notes: tuple[str, ...] = field(default_factory=tuple)  # what a person should know
    ended: str | None = None  # why before `max_update`, where it did


class TrainingFailed(Exception):
    """A training died for a reason that is not the user's: the last lines it wrote, and where the whole log is."""


def train(
    spec: TrainSpec, out: Path, progress: Callable[[TrainingProgress], None] = lambda _: None, threads: int = 1
) -> TrainingResult:
    """Trains up to `spec.config.max_update` updates, going on from what is in `out/checkpoints`.

    Leaves `checkpoints/`, `metrics.jsonl`, `train.log`, `train.flags` in `out`. Where that many updates are done
    already, nothing is run. On CPU, equal threads and processes give equal weights, however often the training was
    interrupted.

    Raises: UserError for what the user can mend, OSError (ENOSPC) on a full disk, TransientError where a signal stopped
    it, TrainingFailed for all else.
    """
    folder = out / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    point = checkpoints.resume_point(folder)
    notes = [f"{path.name} could not be read to its end and was set aside" for path in point.set_aside]
    if point.set_aside:
        notes[-1] += f"; training went on from update {point.updates}."
    flags = arguments(spec, folder)
    write_text(out / FLAGS, readable(flags))
    metrics = Metrics(out / METRICS, point.updates, spec.config.max_update, progress, devices=spec.world_size)
    began = time.monotonic()
    if point.updates < spec.config.max_update:
        write_json(out / SPEC, _description(spec, flags))
        _run(_command(spec, out / SPEC), out / LOG, _environment(threads), metrics.read, _advice(spec, folder))
    done = checkpoints.numbered(folder)
    updates = done[0].updates if done else 0
    upto = updates if metrics.ended else spec.config.max_update
    return TrainingResult(
        updates=updates,
        resumed_from=point.updates,
        seconds=time.monotonic() - began,
        checkpoints=tuple(each.path for each in checkpoints.regular(folder, spec.config.checkpoint.every, upto)),
        ended=metrics.ended,
        metrics=out / METRICS,
        target_tokens=metrics.target_tokens(),
        notes=tuple(notes),
    )


def continue_from(previous: Path, out: Path, upto: int) -> int:
    """Gives `out` the state of an earlier model folder whose training had equal settings and fewer updates.

    Returns the updates that are done already; 0 where `previous` has no checkpoint.
    """
    done = checkpoints.seed(previous / CHECKPOINTS, out / CHECKPOINTS, upto)
    if done and (previous / METRICS).is_file():
        shutil.copyfile(previous / METRICS, out / METRICS)
    return done


def to_average(result: TrainingResult, config: TrainConfig) -> list[Path]:
    """The checkpoints that the final model is made from: the newest, or the best by `checkpoint.metric`."""
    count = config.checkpoint.average
    if config.checkpoint.average_of is Which.last:
        return list(result.checkpoints[:count])
    metric = validated_on(config)
    values = {
        entry["update"]: entry.get(metric.value) for entry in read_metrics(result.metrics) if entry["split"] == "dev"
    }
    known = [(update, value) for update, value in values.items() if value is not None]
    paths = {each.updates: each.path for each in checkpoints.numbered(result.checkpoints[0].parent)}
    ranked = [
        update for update in checkpoints.best(known, metric is Metric.bleu) if paths.get(update) in result.checkpoints
    ]
    return [paths[update] for update in ranked[:count]]


def _description(spec: TrainSpec, flags: list[str]) -> dict[str, Any]:
    """What the training process is told beside fairseq's own flags."""
    stop, checkpoint = spec.config.stop, spec.config.checkpoint
    best = max(checkpoint.keep_best, checkpoint.average if checkpoint.average_of is Which.best else 0)
    return {
        "flags": flags,
        "precision": spec.config.precision.value,
        "device": spec.device,
        "ending": {"every": checkpoint.every, "patience": stop.patience, "most_tokens": stop.target_tokens},
        "keep": {"keep_best": best, "keep_every": checkpoint.keep_every},
    }


def _command(spec: TrainSpec, description: Path) -> list[str]:
    if spec.world_size == 1:
        return [sys.executable, "-P", "-m", "kd.engines.fairseq", "train", "--spec", str(description)]
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(spec.world_size)),
        *("-m", "kd.engines.fairseq", "train", "--spec", str(description)),
    ]


def _environment(threads: int) -> dict[str, str]:
    """This process's environment, with the number of threads that every numerical library shall use."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    project = str(Path(__file__).resolve().parents[3])  # the same kd as this one, from wherever it was imported
    path = os.pathsep.join(part for part in (project, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


# --- following the log ---------------------------------------------------------------------------------------------


class Metrics:
    """`metrics.jsonl`: one object a line, kept free of updates that a resumed training does again.

    All lines have split, update, epoch, loss and nll_loss (bits a piece), ppl, and what a curve can stand against
    beside updates: target_tokens (pieces seen since the first update), seconds (of training and validating, over all
    interruptions; what was lost and done again counts once) and devices (seconds * devices / 3600 are GPU hours).
    Lines of `split` `train` have lr, gnorm, tokens_per_second and tokens_per_update (target pieces, since the line
    before), on a GPU gpu_memory (GB that the last update took at most); lines of `split` `dev` bleu, if measured.
    """

    def __init__(
        self,
        path: Path,
        resumed_from: int,
        max_update: int,
        progress: Callable[[TrainingProgress], None],
        devices: int = 1,
    ) -> None:
        kept = [entry for entry in read_metrics(path) if entry["update"] <= resumed_from]
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._path = path
        self._progress = progress
        self._devices = devices
        self._tokens = [entry["tokens_per_update"] for entry in kept if entry["split"] == "train"]
        self._now = TrainingProgress(update=resumed_from, max_update=max_update)
        self._rate: float | None = None  # updates a second
        self.ended: str | None = None  # why the training ended before its last update
        progress(self._now)

    def read(self, line: str) -> None:
        """Takes a line of fairseq's log; those without numbers are passed over."""
        found = _LOGGED.search(line)
        if reason := _ENDED.search(line):
            self.ended = reason[1] or reason[2]
        if not found:
            return
        values = json.loads(found[2])
        entry = self._train(values) if found[1] == "train_inner" else self._dev(values)
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(entry) + "\n")
        self._tell(entry)

    def target_tokens(self) -> float | None:
        """Mean target tokens an update, over all lines so far."""
        return sum(self._tokens) / len(self._tokens) if self._tokens else None

    def _train(self, values: dict[str, Any]) -> dict[str, Any]:
        self._tokens.append(float(values["wpb"]))
        self._rate = float(values["ups"])
        return {
            "split": "train",
            "update": int(values["num_updates"]),
            "epoch": int(values["epoch"]),
            **{name: _number(values[name]) for name in ("loss", "nll_loss", "ppl", "lr", "gnorm")},
            "tokens_per_second": _number(values["wps"]),
            "tokens_per_update": _number(values["wpb"]),
            **({GPU_MEMORY: _number(values[GPU_MEMORY])} if GPU_MEMORY in values else {}),
            **self._cost(values),
        }

    def _dev(self, values: dict[str, Any]) -> dict[str, Any]:
        names = [name for name in ("loss", "nll_loss", "ppl", "bleu") if f"valid_{name}" in values]
        return {
            "split": "dev",
            "update": int(values["valid_num_updates"]),
            "epoch": int(values["epoch"]),
            **{name: _number(values[f"valid_{name}"]) for name in names},
            **self._cost(values, "valid_"),
        }

    def _cost(self, values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        tokens, seconds = (values[prefix + name] for name in (TOKENS, SECONDS))
        return {"target_tokens": int(tokens), "seconds": float(seconds), "devices": self._devices}

    def _tell(self, entry: dict[str, Any]) -> None:
        left = self._now.max_update - entry["update"]
        known = {"update": entry["update"], "epoch": entry["epoch"], "max_update": self._now.max_update}
        if entry["split"] == "train":
            known |= {name: entry.get(name) for name in ("loss", "tokens_per_second", GPU_MEMORY)}
        else:
            known |= {"dev_loss": entry["loss"], "dev_bleu": entry.get("bleu")}
        known["seconds_left"] = left / self._rate if self._rate else None
        self._now = TrainingProgress(**{**vars(self._now), **known})
        self._progress(self._now)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a `metrics.jsonl`; a last line that was cut short is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)


def _number(text: Any) -> float | None:
    """fairseq writes numbers as text. What is not finite is no JSON and becomes null."""
    value = float(text)
    return value if abs(value) != float("inf") and value == value else None


# --- the subprocess ------------------------------------------------------------------------------------------------


def _run(
    command: list[str],
    log: Path,
    environment: dict[str, str],
    read: Callable[[str], None],
    advice: Callable[[str], Exception | None],
) -> None:
    """Runs a command to its end, hands each line of its output to `read` and appends it to the log."""
    last: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
    with log.open("a", encoding="utf-8", newline="\n") as file, _started(command, environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            last.append(line.rstrip("\n"))
            read(line.rstrip("\n"))
        status = process.wait()
    if status == 0:
        return
    stopped = STOPPED.removesuffix("%d")  # torchrun passes on no status of its workers
    if status == EXIT_TRANSIENT or any(stopped in line for line in last):
        raise TransientError("A signal stopped the training; it saved a checkpoint first and goes on from there.")
    known = advice("\n".join(last))
    if known is not None:
        raise known
    raise TrainingFailed(f"The training {_died(status)}. Its log is {log}; the last lines are:\n" + "\n".join(last))


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A subprocess that does not outlive this block, nor this process."""
    ctypes.CDLL(None)  # loaded before the fork: nothing is imported between fork and exec
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        bufsize=1,
        preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - two system calls, nothing that could wait for a lock
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # saves a checkpoint after the current update
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _close(process.stdout)


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()


def _died(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL), often by the kernel for want of memory"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _advice(spec: TrainSpec, folder: Path) -> Callable[[str], Exception | None]:
    """Turns the last lines of a dead training into an error that says what to do, where that is known."""

    def advise(last: str) -> Exception | None:
        for line in last.split("\n"):
            if line.startswith(USER_ERROR):
                return UserError(*json.loads(line.removeprefix(USER_ERROR)))
        if "No space left on device" in last:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        if "out of memory" in last.lower():
            return UserError(
                "The GPU ran out of memory.",
                f"Set batch.max_tokens lower (the passes now have {spec.max_tokens} tokens at most).",
            )
        return None

    return advise
