"""Measure trainings: speed, MFU, memory, energy, resuming after SIGUSR1, and scaling over a computer's GPUs."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from kd.base import energy
from kd.base.errors import StopRequested, TransientError
from kd.doctor import reduce
from kd.doctor.bench.material import mean_lengths
from kd.doctor.bench.setup import LONGEST, STUDENT, NotMeasured, Setup, Values
from kd.engines.fairseq import checkpoints, training
from kd.engines.fairseq.binary import data_folders
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.forecast import memory
from kd.models.training_log import METRICS, read_metrics
from kd.models.transformer import training_flops
from kd.recipe.schema import (
    BatchConfig,
    CheckpointConfig,
    OptimizerConfig,
    Precision,
    StopConfig,
    TrainConfig,
)

_LOG_EVERY = 2  # updates; few, so that slow devices have some lines as well
_STOP_AT, _GO_ON = 6, 4  # updates: before the signal, and at least after it
_RATE = 1e-4  # learning rate, at which nothing diverges within a minute


def speed(setup: Setup, model: str, precision: str, workers: int = 1) -> Values:
    """Train one of the models for a short time, and measure it.

    Args:
        setup: The device and the sizes.
        model: Name of the model in `setup.size.models`.
        precision: Precision of the training.
        workers: Processes, one for each GPU.

    Returns:
        tokens_per_second: Target tokens, over all workers, of the second half of the training.
        mfu: Model FLOPs utilisation, 0 to 1; None if the device's peak is not known.
        micro_batch: Padded tokens of one side in a micro-batch.
        forecast_memory, measured_memory: Bytes at the peak of one process, in tensors; measured: None on a CPU.
        joules_per_1000_tokens, watts: Of all GPUs together in that half; None where no meter is.
        tokens: Target tokens of the whole training.
    """
    spec = _spec(setup, model, precision, workers)
    out = setup.folder / f"training-{time.monotonic_ns()}"
    joules: dict[int, float] = {}
    with setup.meter(workers) as meter:

        def tell(now: training.TrainingProgress) -> None:
            joules[now.update] = meter.spent.joules

        result = training.train(spec, out, tell, threads=setup.threads)
    lines = [entry for entry in read_metrics(out / METRICS) if entry["split"] == "train"]
    shutil.rmtree(out)
    if len(lines) < 2:
        raise RuntimeError(f"The training made {len(lines)} of the 2 log lines that a measurement needs.")
    first, last = lines[(len(lines) - 1) // 2], lines[-1]
    seconds = float(last["seconds"]) - float(first["seconds"])
    tokens = int(last["target_tokens"]) - int(first["target_tokens"])
    used = joules[int(last["update"])] - joules[int(first["update"])]
    metered = meter.spent.source != energy.NOT_MEASURED and used > 0
    expected = memory(
        spec.config,
        vocabulary=setup.size.vocabulary,
        max_tokens=spec.max_tokens,
        longest=LONGEST,
        world_size=workers,
    )
    return {
        "model": model,
        "precision": precision,
        "workers": workers,
        "tokens_per_second": tokens / seconds,
        "mfu": result.usage.mfu,
        "micro_batch": spec.max_tokens,
        "forecast_memory": expected.total,
        "measured_memory": result.gpu_memory,
        "joules_per_1000_tokens": 1000 * used / tokens if metered else None,
        "watts": used / seconds if metered else None,
        "tokens": int(last["target_tokens"]),
    }


def resume(setup: Setup) -> Values:
    """Send SIGUSR1 during a training, as a scheduler does before a time limit, and resume it.

    Returns:
        stopped_at: Updates in the checkpoint that the signal caused.
        seconds_to_stop: From the signal until all processes have ended.
        seconds_to_resume: From the second start until the first new log line.
        updates: Updates at the end.

    Raises:
        RuntimeError: Updates were lost, or the training did not go on.
    """
    out = setup.folder / "resume"
    signalled: list[float] = []

    def interrupt(now: training.TrainingProgress) -> None:
        if now.update >= _STOP_AT and not signalled:
            signalled.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, _stop)
    endless = _spec(setup, STUDENT, setup.precisions[0], 1, updates=1_000_000)
    try:
        training.train(endless, out, interrupt, threads=setup.threads)
        raise RuntimeError("The training ended without noticing the signal.")
    except TransientError:
        stopped = time.monotonic()
    finally:
        signal.signal(signal.SIGUSR1, before)
    saved = checkpoints.numbered(out / training.CHECKPOINTS)[0].updates
    began = time.monotonic()
    new: list[float] = []

    def note(now: training.TrainingProgress) -> None:
        if now.update > saved and not new:
            new.append(time.monotonic())

    spec = _spec(setup, STUDENT, setup.precisions[0], 1, updates=saved + _GO_ON)
    result = training.train(spec, out, note, threads=setup.threads)
    shutil.rmtree(out)
    if saved < _STOP_AT or result.resumed_from != saved or result.updates != saved + _GO_ON or not new:
        raise RuntimeError(
            f"The training stopped at update {saved}, resumed from {result.resumed_from} and ended at {result.updates}."
        )
    return {
        "stopped_at": saved,
        "seconds_to_stop": stopped - signalled[0],
        "seconds_to_resume": new[0] - began,
        "updates": result.updates,
    }


def _stop(number: int, _frame: object) -> None:
    raise StopRequested(number)


def communication(setup: Setup) -> Values:
    """Sum numbers over all GPUs of this computer by NCCL or RCCL (on a CPU: two processes, by gloo).

    Returns: workers, gigabytes_per_second.
    """
    _need_two(setup)
    rate = reduce.rate(setup.workers, setup.device)
    return {"workers": setup.workers, "gigabytes_per_second": rate}


def scaling(setup: Setup) -> Values:
    """Train the student on all GPUs of this computer, with the same micro-batches on each as on one (weak scaling).

    Returns: the values of `speed`.
    """
    _need_two(setup)
    return speed(setup, STUDENT, setup.precisions[0], setup.workers)


def _need_two(setup: Setup) -> None:
    if setup.workers < 2:
        raise NotMeasured("It needs two GPUs or more, and this computer has one.")


def settings(setup: Setup, model: str, precision: str, updates: int | None = None) -> TrainConfig:
    """Return the settings of a training of `updates` updates, or of the time and the updates of a measurement."""
    return TrainConfig(
        model=setup.size.models[model],
        optimizer=OptimizerConfig(learning_rate=_RATE, warmup_updates=100, label_smoothing=0.1, clip_norm=1.0),
        batch=BatchConfig(target_tokens=setup.size.most_tokens, max_tokens=setup.size.most_tokens),
        checkpoint=CheckpointConfig(every=10_000_000, keep=1, average=1),
        members=1,
        seed=1,
        max_update=updates or setup.size.updates,
        stop=StopConfig(hours=0.0 if updates else setup.size.seconds / 3600),
        precision=Precision(precision),
        validate_bleu=False,
        log_every=_LOG_EVERY,
    )


def _spec(setup: Setup, model: str, precision: str, workers: int, updates: int | None = None) -> TrainSpec:
    config = settings(setup, model, precision, updates)
    data = data_folders(setup.folder / "data")
    source, target = mean_lengths(data[0])
    return TrainSpec(
        config=config,
        data=data,
        vocabulary=Path("none"),  # nothing is translated
        max_pieces=LONGEST,
        max_tokens=setup.micro_batch(config, workers),
        update_freq=setup.size.passes,
        seed=1,
        device=setup.torch_device,
        world_size=workers,
        flops_per_token=training_flops(config.model, setup.size.vocabulary, source, target),
    )
