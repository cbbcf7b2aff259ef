"""Run one training as a task, for the kinds `train` and `search`: forecast, batch size, training, averaging, checks.

The kind chooses the model, the data and the seed (`Training`). An interrupted task resumes from its last checkpoint; if
max_update is raised, it continues.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from kd import tracking
from kd.base.errors import IncompleteArtifact, UserError
from kd.base.text import size
from kd.corpora.balance import in_words
from kd.corpora.index import read_json, write_json
from kd.engines.fairseq.automatic import Settled, Surroundings, settle
from kd.engines.fairseq.batching import BatchPlan
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.forecast import Forecast, forecast
from kd.engines.fairseq.precision import check_precision
from kd.engines.fairseq.training import (
    TrainingProgress,
    TrainingResult,
    continue_from,
    to_average,
    train,
)
from kd.models.files import DICTIONARY, SUMMARY, VOCABULARY, WEIGHTS
from kd.models.folder import copy_vocabulary
from kd.models.matching import read_dictionary
from kd.models.training_log import METRICS, read_metrics
from kd.models.transformer import training_flops
from kd.models.vocabulary import SPECIAL
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.model import Artifact, Job, Summary
from kd.recipe.schema import AUTO, BatchConfig, Metric, Schedule, TrainConfig, Which
from kd.stages.teachers import Lessons, learning_identity

_LOG = logging.getLogger(__name__)

START = "start.pt"  # initial weights, kept only while the training runs


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        config: Its settings.
        data: The encoded corpus.
        seed: Seed of the initial weights and the data order.
        start: Checkpoint with the initial weights; None for random ones.
        lessons: Source of the teachers' token distributions, if they are learnt.
    """

    config: TrainConfig
    data: Artifact
    seed: int
    start: Path | None = None
    lessons: Lessons = field(default_factory=Lessons)


def check_settings(config: TrainConfig) -> None:
    """Raise UserError for settings that are invalid or contradict each other."""
    model, checkpoint = config.model, config.checkpoint
    if model.width % model.heads:
        raise UserError(
            f"model.width is {model.width}, which is not a multiple of model.heads={model.heads}.",
            f"Set model.width to a multiple of {model.heads}.",
        )
    if checkpoint.average > checkpoint.keep and checkpoint.average_of is Which.last:
        raise UserError(
            f"checkpoint.average is {checkpoint.average} but checkpoint.keep is {checkpoint.keep}.",
            "Raise checkpoint.keep or lower checkpoint.average.",
        )
    if checkpoint.validate_every < 0 or checkpoint.validate_every % max(1, checkpoint.every):
        raise UserError(
            f"checkpoint.validate_every is {checkpoint.validate_every} but checkpoint.every is {checkpoint.every}.",
            f"Set checkpoint.validate_every to a multiple of {checkpoint.every}, or to 0.",
        )
    by_bleu = checkpoint.keep_best or checkpoint.average_of is Which.best or config.stop.patience
    if by_bleu and checkpoint.metric is Metric.bleu and not config.validate_bleu:
        raise UserError(
            "checkpoint.metric is bleu but validate_bleu is false, so the best checkpoint cannot be found.",
            "Set checkpoint.metric=loss or validate_bleu=true.",
        )
    size = config.batch.max_tokens
    if size != AUTO and (isinstance(size, str) or size < 1):
        raise UserError(f"batch.max_tokens is {size}.", "Set it to a number of tokens of 1 or more, or to auto.")
    optimizer = config.optimizer
    if optimizer.schedule is Schedule.linear and optimizer.decay_updates <= optimizer.warmup_updates:
        raise UserError(
            f"optimizer.warmup_updates is {optimizer.warmup_updates}, but the linear schedule reaches 0 after "
            f"{optimizer.decay_updates} updates.",
            "Lower optimizer.warmup_updates or raise max_update.",
        )


def training_identity(config: TrainConfig, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity and the extent of a training's task."""
    identity, extent = identity_and_extent(config)
    if config.optimizer.schedule is not Schedule.linear:
        identity["optimizer"].pop("decay_updates", None)  # has no effect then
    checkpoint = config.checkpoint
    if not (checkpoint.keep_best or checkpoint.average_of is Which.best or config.stop.patience):
        extent["checkpoint"].pop("validate_every", None)  # changes what is reported, and not the model
    return {**learning_identity(config, identity), "seed": seed}, extent


def run_training(job: Job[Any], training: Training) -> None:
    """Derive the batch size, train or resume in `job.out`, and average the checkpoints.

    Raises:
        UserError: The device does not support the precision.
        Exception: Whatever `kd.engines.fairseq.training.train` raises.
    """
    from kd.engines.fairseq.binary import data_folders

    data = training.data
    settled = _settled(job, training)
    config = settled.config
    check_precision(config.precision, job.device)
    folders = data_folders(data.path)
    device = "cpu" if job.device == "cpu" else "cuda"  # torch's name for AMD GPUs as well
    plan = _batch_plan(config.batch, folders, data.settings["max_pieces"], job.world.size(device))
    spec = TrainSpec(
        config=config,
        data=folders,
        vocabulary=data.path / VOCABULARY,
        max_pieces=data.settings["max_pieces"],
        max_tokens=plan.max_tokens,
        update_freq=plan.update_freq,
        seed=training.seed,
        device=device,
        world_size=job.world.size(device),
        init_from=training.start,
        teachers=training.lessons.teachers,
        distributions=training.lessons.distributions,
        flops_per_token=_flops_per_token(config, data),
    )
    expected = forecast(
        config,
        vocabulary=len(SPECIAL) + len(read_dictionary(data.path / DICTIONARY)),
        max_tokens=plan.max_tokens,
        longest=spec.max_pieces + 1,
        world_size=spec.world_size,
        teachers=training.lessons.parameters,
    )
    _say(job, settled, expected, plan)
    for line in in_words(data.manifest["facts"].get("balance", {}), _target_tokens(config)):
        job.progress.say(f"{job.stage}/{job.name}: {line}")
    if not any((job.out / "checkpoints").glob("*.pt")):
        _continue_from_kin(job, config.max_update)
    with tracking.follower(job.tracking, f"{job.stage}/{job.name}", job.identity, job.out / METRICS) as follower:

        def tell(now: TrainingProgress) -> None:
            _tell(job, now)
            follower.look()

        result = train(spec, job.out, tell, threads=job.threads, world=job.world)
    job.progress.update("averaging")
    _finish(job, replace(training, config=config), result, plan, expected)


def check_training(job: Job[Any], config: TrainConfig) -> Summary:
    """Load the final model and summarise the training. Raise IncompleteArtifact if updates are missing."""
    from kd.engines.fairseq.model import count_parameters, load_models

    summary = read_json(job.out / SUMMARY)
    if summary["updates"] < config.max_update and not summary["ended"]:
        raise IncompleteArtifact(f"{job.out} has {summary['updates']} of {config.max_update} updates.")
    (model,), _ = load_models([job.out])
    validations = [_validation(entry) for entry in read_metrics(job.out / METRICS) if entry["split"] == "dev"]
    return Summary(
        {"updates": summary["updates"], "target tokens per update": round(summary["target_tokens"] or 0)},
        facts={**summary, "parameters": count_parameters(model), "validations": validations},
    )


def _target_tokens(config: TrainConfig) -> int:
    """Return the number of target tokens that the training processes unless it stops early."""
    whole = config.max_update * config.batch.target_tokens
    return min(whole, config.stop.target_tokens or whole)


def _settled(job: Job[Any], training: Training) -> Settled:
    """Replace `auto` in the settings by values for this device."""
    data, device = training.data, "cpu" if job.device == "cpu" else "cuda"
    gpu_memory = job.machine.get("gpu_memory")
    here = Surroundings(
        device=job.device,
        threads=job.threads,
        world_size=job.world.size(device),
        gpu_memory=None if gpu_memory is None else 1e9 * float(gpu_memory),
        dictionary=data.path / DICTIONARY,
        symbols=len(SPECIAL) + len(read_dictionary(data.path / DICTIONARY)),
        longest=data.settings["max_pieces"] + 1,
        mean=_mean_length(data),
        teachers=training.lessons.parameters,
    )
    job.progress.update("measuring the micro-batch")
    return settle(training.config, here, job.out, job.resumable_from)


def _mean_length(data: Artifact) -> int:
    """Return the mean tokens of the longer side, end included, or those of the longest sentence if not counted."""
    counts = data.manifest.get("counts", {})
    if not counts.get("pairs out"):
        return int(data.settings["max_pieces"]) + 1
    return math.ceil(max(counts["source pieces"], counts["target pieces"]) / counts["pairs out"])


def _flops_per_token(config: TrainConfig, data: Artifact) -> float | None:
    """Return the FLOPs of training on one target token of this corpus; None if its tokens were not counted."""
    counts = data.manifest.get("counts", {})
    if not counts.get("pairs out"):
        return None
    source, target = (counts[f"{side} pieces"] / counts["pairs out"] for side in ("source", "target"))
    symbols = len(SPECIAL) + len(read_dictionary(data.path / DICTIONARY))
    return training_flops(config.model, symbols, source, target)


def _say(job: Job[Any], settled: Settled, expected: Forecast, plan: BatchPlan) -> None:
    """Print the forecast and the batch size, and warn if the disk is too small."""
    for line in [*settled.notes, *expected.lines(job.device), plan.note, plan.derivation]:
        _LOG.info("%s/%s: %s", job.stage, job.name, line)
    free = shutil.disk_usage(job.out).free
    held = sum(path.stat().st_size for path in job.out.glob("checkpoints/checkpoint_*_*.pt"))
    if expected.disk - held > free:
        _LOG.warning(
            "%s/%s: The disk has %s left. Lower checkpoint.keep or keep_best, or set store.dir to a folder on another "
            "disk.",
            job.stage,
            job.name,
            size(free),
        )


def _batch_plan(batch: BatchConfig, folders: Sequence[Path], max_pieces: int, world_size: int) -> BatchPlan:
    from kd.engines.fairseq.batching import JoinedLengths, plan
    from kd.engines.fairseq.binary import IndexedReader, data_prefix

    source, target = (
        JoinedLengths([IndexedReader(data_prefix(folder, "train", side)).sizes for folder in folders])
        for side in ("source", "target")
    )
    return plan(
        source,
        target,
        target_tokens=batch.target_tokens,
        max_tokens=int(batch.max_tokens),  # settled
        world_size=world_size,
        max_pieces=max_pieces,
    )


def _continue_from_kin(job: Job[Any], max_update: int) -> None:
    """Link the checkpoints of the same training with fewer updates, if it exists."""
    for folder in job.resumable_from:
        done = continue_from(folder, job.out, max_update)
        if done:
            _LOG.info("%s/%s: continues from update %d of %s", job.stage, job.name, done, folder)
            return


def _tell(job: Job[Any], now: TrainingProgress) -> None:
    numbers: dict[str, Any] = {"loss": now.loss, "dev loss": now.dev_loss, "dev BLEU": now.dev_bleu}
    notes = {name: f"{value:.2f}" for name, value in numbers.items() if value is not None}
    if now.epoch:
        notes = {"epoch": f"{now.epoch:,}", **notes}
    if now.tokens_per_second:
        notes["speed"] = f"{now.tokens_per_second:,.0f} tokens/s"
    if now.gpu_memory:
        notes["GPU memory"] = f"{now.gpu_memory:.1f} GB"
    if now.mfu is not None:
        notes["MFU"] = f"{now.mfu:.0%}"
    # The time left is derived from updates; during a validation it would stand still (at 0 s during the last one).
    what, left = ("validating", None) if now.validating else ("training", now.seconds_left)
    job.progress.update(what, now.update, now.max_update, "updates", seconds_left=left, notes=notes)


def _finish(job: Job[Any], training: Training, result: TrainingResult, plan: BatchPlan, expected: Forecast) -> None:
    from kd.engines.fairseq.average import average

    averaged = to_average(result, training.config)
    average(averaged, job.out / WEIGHTS)
    copy_vocabulary(training.data.path, job.out)
    summary = {
        "updates": result.updates,
        "ended": result.ended,
        "averaged": [path.name for path in averaged],
        "target_tokens": result.target_tokens,
        "devices": plan.world_size,
        "batch": plan.note,
        "precision": training.config.precision.value,
        "max_tokens": training.config.batch.max_tokens,
        "forecast": expected.facts(),
        "gpu_memory": result.gpu_memory,  # measured; the forecast's figure is in `forecast`
        **asdict(result.usage),
        "notes": list(result.notes),
    }
    write_json(job.out / SUMMARY, summary)
    (job.out / START).unlink(missing_ok=True)


def _validation(entry: dict[str, Any]) -> dict[str, Any]:
    return {"update": entry["update"], "dev_loss": entry["loss"], "dev_bleu": entry.get("bleu")}
