"""Adds target tokens, hours and GPU memory to fairseq's log lines of training and validation, for learning curves."""

from __future__ import annotations

from typing import Any

from kd.engines.fairseq.watch import Watch

TOKENS = "target_tokens"  # seen since the first update, over all interruptions
SECONDS = "seconds"  # of training and validation, over all interruptions; without work that was lost
GPU_MEMORY = "gpu_memory"  # peak of the last update on this process's GPU, in GB


def install(fairseq_train: Any, watch: Watch) -> None:
    """Make the module `fairseq_cli.train` log these values as text, which it does not round."""
    train, training_stats, valid_stats = (
        getattr(fairseq_train, name) for name in ("train", "get_training_stats", "get_valid_stats")
    )
    trainers: list[Any] = []

    def cost(trainer: Any) -> dict[str, str]:
        # fairseq keeps the time in its checkpoints, to end a training after a number of hours.
        return {TOKENS: str(int(watch.tokens)), SECONDS: f"{trainer._local_cumulative_training_time():.3f}"}

    def noted_train(cfg: Any, trainer: Any, task: Any, epoch_itr: Any) -> Any:
        trainers[:] = [trainer]
        return train(cfg, trainer, task, epoch_itr)

    def get_training_stats(stats: Any) -> Any:
        found = {**training_stats(stats), **cost(trainers[0])}
        if "gb_free" in found:  # fairseq logs it on a GPU, for the current update
            found[GPU_MEMORY] = f"{_gpu_total() - float(found['gb_free']):.2f}"
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
