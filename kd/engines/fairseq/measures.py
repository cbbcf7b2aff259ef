"""Add measurements to fairseq's log lines of training and validation, for learning curves and costs.

They are the target tokens, the hours, the shares of saving and validating, model FLOPs utilisation, and GPU memory.
"""

from __future__ import annotations

from typing import Any

from kd.engines.fairseq.watch import Watch

TOKENS = "target_tokens"  # seen since the first update, over all interruptions
SECONDS = "seconds"  # of training and validation, over all interruptions; without work that was lost
SAVING = "saving_share"  # of these seconds, 0 to 1: saving checkpoints
VALIDATING = "validating_share"  # of these seconds, 0 to 1: validation
GPU_MEMORY = "gpu_memory"  # peak of the last update on this process's GPU, in GB
MFU = "mfu"  # model FLOPs utilisation since the line before, 0 to 1


class Utilisation:
    """Measure model FLOPs utilisation: the FLOPs that a model needs, divided by the peak of its devices.

    As Chowdhery et al. (2022, PaLM, appendix B) define it: forward and backward pass, without padding and
    recomputation. Time spent on saving and validating is not counted.

    Args:
        flops_per_token: FLOPs of training on one target token (`kd.models.transformer.training_flops`).
        peak: FLOP/s of all devices together.
    """

    def __init__(self, flops_per_token: float, peak: float) -> None:
        self._flops, self._peak = flops_per_token, peak
        self._before: tuple[int, float] | None = None

    def since_last(self, tokens: int, seconds: float) -> float | None:
        """Return the utilisation since the last call, 0 to 1; None at the first call.

        Args:
            tokens: Target tokens seen so far.
            seconds: Seconds of training so far.
        """
        before, self._before = self._before, (tokens, seconds)
        if before is None or seconds <= before[1]:
            return None
        return self._flops * (tokens - before[0]) / (seconds - before[1]) / self._peak


def install(fairseq_train: Any, watch: Watch, utilisation: Utilisation | None = None) -> None:
    """Make the module `fairseq_cli.train` log these values as text, which it does not round."""
    train, training_stats, valid_stats = (
        getattr(fairseq_train, name) for name in ("train", "get_training_stats", "get_valid_stats")
    )
    trainers: list[Any] = []

    def cost(trainer: Any) -> dict[str, str]:
        # fairseq keeps the time in its checkpoints, to end a training after a number of hours.
        seconds = trainer._local_cumulative_training_time()
        shares = {SAVING: watch.saving, VALIDATING: watch.validating_seconds()}
        return {
            TOKENS: str(int(watch.tokens)),
            SECONDS: f"{seconds:.3f}",
            **{name: f"{min(1.0, spent / max(seconds, 1e-9)):.5f}" for name, spent in shares.items()},
        }

    def noted_train(cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> Any:
        trainers[:] = [trainer]
        return train(cfg, trainer, task, epoch_itr)

    def get_training_stats(stats: Any) -> Any:
        found = {**training_stats(stats), **cost(trainers[0])}
        if "gb_free" in found:  # fairseq logs it on a GPU, for the current update
            found[GPU_MEMORY] = f"{_gpu_total() - float(found['gb_free']):.2f}"
        if utilisation is not None:
            seconds = float(found[SECONDS]) - watch.saving - watch.validating
            share = utilisation.since_last(int(found[TOKENS]), seconds)
            found |= {} if share is None else {MFU: f"{share:.4f}"}
        return found

    def get_valid_stats(cfg: Any, trainer: Any, stats: Any, tracking_best: bool) -> Any:
        return {**valid_stats(cfg, trainer, stats, tracking_best), **cost(trainer)}

    fairseq_train.train = noted_train
    fairseq_train.get_training_stats = get_training_stats
    fairseq_train.get_valid_stats = get_valid_stats


def _gpu_total() -> float:
    """Return the memory of the current GPU in fairseq's GB (2**30 bytes)."""
    import torch

    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30
