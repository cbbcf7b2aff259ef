"""Train a model in a subprocess and follow it: `metrics.jsonl`, live progress, resuming and error messages.

This module runs in the task's process and imports neither torch nor fairseq; `train.py` runs in the training process.
"""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from kd.base.errors import EXIT_TRANSIENT, StopRequested, TransientError
from kd.base.files import write_json, write_text
from kd.base.world import World
from kd.engines.fairseq import checkpoints, launching
from kd.engines.fairseq.flags import TrainSpec, arguments, readable, validated_every, validated_on
from kd.engines.fairseq.launching import Launch, TrainingFailed
from kd.engines.fairseq.measures import GPU_MEMORY, MFU, SAVING, SECONDS, TOKENS, VALIDATING
from kd.engines.fairseq.nodes import Meeting
from kd.engines.fairseq.saving import TOLD
from kd.engines.fairseq.watch import ENDED
from kd.models.training_log import METRICS, Usage, read_metrics, usage
from kd.recipe.schema import Metric, TrainConfig, Which

_LOG = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
LOG = "train.log"
FLAGS = "train.flags"
SPEC = "train.spec.json"

_ENDED = re.compile(re.escape(ENDED) + "(.*)$|Stopping training due to (cumulative_training_time.*)$")
SAVING_SHARE = 0.01  # of the time: what saving may cost before it is worth a word
_LOGGED = re.compile(r"\| (train_inner|valid) \| (\{.*\})$")  # fairseq's --log-format json
_VALIDATES = "| begin validation on "  # fairseq's words


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training; values are None until they have been logged."""

    update: int
    max_update: int
    epoch: int | None = None
    loss: float | None = None  # label-smoothed, bits a piece
    tokens_per_second: float | None = None  # target pieces
    seconds_left: float | None = None
    dev_loss: float | None = None
    dev_bleu: float | None = None
    gpu_memory: float | None = None  # GB that the last update took at most, of this process's GPU
    mfu: float | None = None  # model FLOPs utilisation since the line before, 0 to 1; None where the peak is unknown
    validating: bool = False  # dev is being scored and translated, which may take minutes


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training."""

    updates: int  # done in all
    resumed_from: int  # updates that were there before this call
    seconds: float  # of this call
    checkpoints: tuple[Path, ...]  # those an uninterrupted training leaves, the newest first
    metrics: Path
    target_tokens: float | None  # measured mean target tokens per update
    notes: tuple[str, ...] = field(default_factory=tuple)  # what a person should know
    ended: str | None = None  # why before `max_update`, where it did
    gpu_memory: int | None = None  # bytes in tensors at the peak, of the first GPU; None where there is none
    usage: Usage = field(default_factory=Usage)


def train(
    spec: TrainSpec,
    out: Path,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    threads: int = 1,
    world: World | None = None,
) -> TrainingResult:
    """Train up to `spec.config.max_update` updates, resuming from `out/checkpoints`.

    Write `checkpoints/`, `metrics.jsonl`, `train.log` and `train.flags` to `out`; return at once if all updates are
    done. On a CPU, equal threads and processes give equal weights, however often the training was interrupted.

    Args:
        spec: The settings.
        out: The folder of the training.
        progress: Called with the state of the training.
        threads: CPU threads.
        world: The nodes of the training; this process is on the first. None: this node alone, with `spec.world_size`
            processes.

    Raises:
        UserError: The user can correct the failure.
        OSError: The disk is full (ENOSPC).
        TransientError: A signal stopped the training.
        TrainingFailed: The training failed for another reason.
    """
    folder = out / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    point = checkpoints.resume_point(folder)
    notes = [f"{path.name} could not be read completely and was set aside" for path in point.set_aside]
    if point.set_aside:
        notes[-1] += f"; training continued from update {point.updates}."
        _LOG.warning("%s", notes[-1])
    flags = arguments(spec, folder)
    write_text(out / FLAGS, readable(flags))
    metrics = Metrics(out / METRICS, point.updates, spec.config.max_update, progress, devices=spec.world_size)
    told = Told(spec.config.checkpoint.every)
    began = time.monotonic()
    if not metrics.complete(validated=spec.has_dev):
        write_json(out / SPEC, _description(spec, flags, folder))
        _run(_launch(spec, out, threads, world), [metrics.read, told.read])
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
        notes=(*notes, *told.notes),
        gpu_memory=told.gpu_memory,
        usage=usage(read_metrics(out / METRICS)),
    )


def run_worker_node(out: Path, world: World, threads: int, over: Callable[[], bool]) -> None:
    """Run a node other than the first: wait for the first node, run the same torchrun, and end with its result.

    Args:
        out: The task's folder, which all nodes share.
        world: The nodes.
        threads: CPU threads on this node.
        over: Returns whether the task has finished.

    Raises:
        TransientError: The first node does not appear. The other errors are those of `train`.
    """
    meeting = Meeting(out, world.node_rank, world.nodes)
    facts = meeting.join(over)
    if facts is None:
        return
    log = out / LOG.replace(".log", f".node-{world.node_rank}.log")
    try:
        here = Launch(out / SPEC, log, world, facts["workers"], threads, facts["max_tokens"])
        launching.run(here, elsewhere=partial(_died_elsewhere, meeting))
    except StopRequested:
        raise
    except Exception as error:
        meeting.end(EXIT_TRANSIENT if isinstance(error, TransientError) else 1, str(error))
        first = meeting.verdict(0)
        if first is not None and first[0] == EXIT_TRANSIENT and not isinstance(error, TransientError):
            raise TransientError(first[1]) from None
        raise
    meeting.end(0)


def _launch(spec: TrainSpec, out: Path, threads: int, world: World | None) -> Launch:
    world = world or World(processes=spec.world_size, gpus=spec.world_size)
    return Launch(
        description=out / SPEC,
        log=out / LOG,
        world=world,
        workers=world.workers(spec.device),
        threads=threads,
        max_tokens=spec.max_tokens,
        stall_minutes=spec.config.stall_minutes,
    )


def _run(launch: Launch, readers: Sequence[Callable[[str], None]]) -> None:
    """Send the other nodes their command, then run this node's processes."""
    if launch.world.nodes == 1:
        launching.run(launch, readers)
        return
    meeting = Meeting(launch.description.parent, 0, launch.world.nodes)
    meeting.open()
    try:
        meeting.invite({"workers": launch.workers, "max_tokens": launch.max_tokens})
        launching.run(launch, readers, partial(_died_elsewhere, meeting))
    except Exception as error:
        meeting.end(EXIT_TRANSIENT if isinstance(error, TransientError) else 1, str(error))
        raise
    meeting.close()


def _died_elsewhere(meeting: Meeting) -> Exception | None:
    end = meeting.died()
    if end is None:
        return None
    return TransientError(end[1]) if end[0] == EXIT_TRANSIENT else TrainingFailed(end[1])


def continue_from(previous: Path, out: Path, upto: int) -> int:
    """Give `out` the checkpoints of an earlier training with equal settings and fewer updates.

    Returns the number of updates already done; 0 if `previous` has no checkpoint.
    """
    done = checkpoints.seed(previous / CHECKPOINTS, out / CHECKPOINTS, upto)
    if done and (previous / METRICS).is_file():
        shutil.copyfile(previous / METRICS, out / METRICS)
    return done


def to_average(result: TrainingResult, config: TrainConfig) -> list[Path]:
    """Return the checkpoints to average: the newest, or the best by `checkpoint.metric`."""
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


def _description(spec: TrainSpec, flags: list[str], folder: Path) -> dict[str, Any]:
    """Return the specification of the training process, fairseq's flags included."""
    stop, checkpoint = spec.config.stop, spec.config.checkpoint
    return {
        "flags": flags,
        "precision": spec.config.precision.value,
        "device": spec.device,
        "folder": str(folder),
        "stall_minutes": spec.config.stall_minutes,
        "flops_per_token": spec.flops_per_token,
        "devices": spec.world_size,
        "ending": {"every": validated_every(spec.config), "patience": stop.patience, "most_tokens": stop.target_tokens},
        "keep": {"keep_best": checkpoints.best_kept(checkpoint), "keep_every": checkpoint.keep_every},
    }


# --- following the log ---------------------------------------------------------------------------------------------


class Metrics:
    """Write `metrics.jsonl`: one object per line; updates that a resumed training repeats are removed first.

    All lines have split, update, epoch, loss and nll_loss (bits per piece), ppl, and alternative axes for curves:
    target_tokens (pieces seen since the first update), seconds (of training and validation, over all interruptions;
    repeated work counts once) and devices (seconds * devices / 3600 are GPU hours). saving_share and validating_share
    are the shares of these seconds, 0 to 1, that saving and validation took. Lines with `split` `train` have lr, gnorm,
    tokens_per_second and tokens_per_update (target pieces, since the previous line), mfu (model FLOPs utilisation since
    the previous line, 0 to 1; null where the device's peak is not known) and, on a GPU, gpu_memory (peak of the last
    update in GB); lines with `split` `dev` have bleu, if measured.
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
        self._validated = {entry["update"] for entry in kept if entry["split"] == "dev"}
        self._tokens = [entry["tokens_per_update"] for entry in kept if entry["split"] == "train"]
        self._now = TrainingProgress(update=resumed_from, max_update=max_update)
        self._rate: float | None = None  # updates a second
        self.ended: str | None = None  # why the training ended before its last update
        progress(self._now)

    def read(self, line: str) -> None:
        """Read a line of fairseq's log; lines without values are ignored."""
        found = _LOGGED.search(line)
        if reason := _ENDED.search(line):
            self.ended = reason[1] or reason[2]
        if _VALIDATES in line:
            self._now = replace(self._now, validating=True)
            self._progress(self._now)
        if not found:
            return
        values = json.loads(found[2])
        entry = self._train(values) if found[1] == "train_inner" else self._dev(values)
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(entry) + "\n")
        self._tell(entry)

    def complete(self, *, validated: bool) -> bool:
        """Return whether all updates are done, and the last one is validated if required."""
        return self._now.update >= self._now.max_update and (not validated or self._now.update in self._validated)

    def target_tokens(self) -> float | None:
        """Return the mean target tokens per update, over all lines so far."""
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
            MFU: _number(values[MFU]) if MFU in values else None,
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
        shares = {name: float(values[prefix + name]) for name in (SAVING, VALIDATING)}
        return {"target_tokens": int(tokens), "seconds": float(seconds), "devices": self._devices, **shares}

    def _tell(self, entry: dict[str, Any]) -> None:
        left = self._now.max_update - entry["update"]
        known = {"update": entry["update"], "epoch": entry["epoch"], "validating": False}
        if entry["split"] == "train":
            known |= {name: entry.get(name) for name in ("loss", "tokens_per_second", GPU_MEMORY, MFU)}
        else:
            known |= {"dev_loss": entry["loss"], "dev_bleu": entry.get("bleu")}
        known["seconds_left"] = left / self._rate if self._rate else None
        self._now = replace(self._now, **known)
        self._progress(self._now)


class Told:
    """Collect further reports of a training besides its metrics: time spent on saving, and GPU memory.

    every: updates between two checkpoints.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._share = 0.0
        self.gpu_memory: int | None = None

    def read(self, line: str) -> None:
        """Read a line of the log; from the third save on, report once saving becomes costly."""
        _, found, text = line.partition(TOLD)
        if not found:
            return
        told = json.loads(text)
        self.gpu_memory = told["gpu_memory"]
        before, self._share = self._share, told["saving"] / max(told["seconds"], 1e-9) if told["saves"] > 2 else 0.0
        if self.notes and before <= SAVING_SHARE:
            _LOG.warning("%s", self.notes[0])

    @property
    def notes(self) -> list[str]:
        """The notes for the user."""
        if self._share <= SAVING_SHARE:
            return []
        enough = math.ceil(self._every * self._share / SAVING_SHARE)
        return [
            f"Saving checkpoints took {self._share:.1%} of the time: checkpoint.every={enough} instead of "
            f"{self._every} would bring it to {SAVING_SHARE:.0%}."
        ]


def _number(text: Any) -> float | None:
    """Parse a number that fairseq wrote as text. NaN and infinity, which JSON lacks, become None."""
    value = float(text)
    return value if abs(value) != float("inf") and value == value else None
