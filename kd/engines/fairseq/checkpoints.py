"""Choose among the checkpoints of a training: to resume from, to keep and to average. Needs no torch.

Names are fairseq's: `checkpoint_<epoch>_<updates>.pt`, and `checkpoint_last.pt` as a second name of the newest.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.base.files import link_file
from kd.recipe.schema import CheckpointConfig, Which

LAST = "checkpoint_last.pt"
_NAME = re.compile(r"checkpoint_(\d+)_(\d+)\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """One numbered checkpoint."""

    path: Path
    epoch: int
    updates: int


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint to resume from, and newer, unreadable files that were renamed."""

    checkpoint: Checkpoint | None  # None: the training starts at the beginning
    set_aside: tuple[Path, ...] = ()

    @property
    def updates(self) -> int:
        """Return the number of updates at the resume point; 0 without a checkpoint."""
        return self.checkpoint.updates if self.checkpoint else 0


def name(epoch: int, updates: int) -> str:
    """Return the file name of a checkpoint."""
    return f"checkpoint_{epoch}_{updates}.pt"


def numbered(folder: Path) -> list[Checkpoint]:
    """Return all numbered checkpoints of a folder, the newest first."""
    if not folder.is_dir():
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    found = [Checkpoint(path, int(match[1]), int(match[2])) for path, match in matches if match]
    return sorted(found, key=lambda checkpoint: (checkpoint.updates, checkpoint.epoch), reverse=True)


def regular(folder: Path, every: int, upto: int) -> list[Checkpoint]:
    """Return the checkpoints that an uninterrupted training of `upto` updates makes, the newest first."""
    return [
        checkpoint
        for checkpoint in numbered(folder)
        if checkpoint.updates <= upto and (checkpoint.updates % every == 0 or checkpoint.updates == upto)
    ]


def is_whole(path: Path) -> bool:
    """Return whether a file is a zip archive (torch's format) with correct checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return False


def resume_point(folder: Path) -> ResumePoint:
    """Find the newest complete checkpoint and give it the name `checkpoint_last.pt`.

    Newer ones that are incomplete (after a full disk or a crash) are renamed to `*.unreadable`, never deleted.
    """
    set_aside: list[Path] = []
    for leftover in folder.glob("*.tmp") if folder.is_dir() else ():
        leftover.unlink()
    for checkpoint in numbered(folder):
        if is_whole(checkpoint.path):
            link_file(checkpoint.path, folder / LAST)
            return ResumePoint(checkpoint, tuple(set_aside))
        set_aside.append(_set_aside(checkpoint.path))
    # There is no checkpoint to resume from, and fairseq must not find another file under this name.
    if (folder / LAST).exists():
        set_aside.append(_set_aside(folder / LAST))
    return ResumePoint(None, tuple(set_aside))


def _set_aside(path: Path) -> Path:
    target = path.with_name(path.name + ".unreadable")
    path.replace(target)
    return target


def best(validations: Sequence[tuple[int, float]], higher_is_better: bool) -> list[int]:
    """Sort updates by their validation value, the best first; among equal values the earlier update first; NaN last."""
    sign = -1 if higher_is_better else 1
    return [
        update
        for update, _ in sorted(
            validations, key=lambda entry: (math.inf if math.isnan(entry[1]) else sign * entry[1], entry[0])
        )
    ]


def prune(folder: Path, every: int, keep: int, *, best: Collection[int] = (), always: int = 0) -> None:
    """Remove all checkpoints except those of `kept_anyway` and those at the updates `best`."""
    found = numbered(folder)
    kept = kept_anyway(found, every, keep, always)
    for checkpoint in found:
        if checkpoint not in kept and checkpoint.updates not in best:
            checkpoint.path.unlink()


def kept_anyway(found: Sequence[Checkpoint], every: int, keep: int, always: int) -> set[Checkpoint]:
    """Return the checkpoints that are kept whatever their validations.

    Args:
        found: All checkpoints, the newest first. The newest is kept.
        every: Updates between regular checkpoints.
        keep: Number of the newest regular checkpoints to keep.
        always: Keep checkpoints at multiples of this number of updates; 0: keep none for this reason.
    """
    regular = [checkpoint for checkpoint in found if checkpoint.updates % every == 0]
    further = [checkpoint for checkpoint in found if always and checkpoint.updates % always == 0]
    return {*found[:1], *regular[: max(keep, 1)], *further}


def best_kept(config: CheckpointConfig) -> int:
    """Return the number of best checkpoints to keep: `keep_best`, or all to average if the best are averaged."""
    averaged = config.average if config.average_of is Which.best else 0
    return max(config.keep_best, averaged)


def number_kept(config: CheckpointConfig, updates: int) -> int:
    """Return the largest number of checkpoints that an uninterrupted training of `updates` updates keeps.

    It keeps fewer if some of the best are kept anyway.
    """
    made = sorted({*range(config.every, updates + 1, config.every), updates}, reverse=True)
    found = [Checkpoint(Path(name(1, update)), 1, update) for update in made]
    anyway = kept_anyway(found, config.every, config.keep, config.keep_every)
    return min(len(found), len(anyway) + best_kept(config))


def seed(previous: Path, folder: Path, upto: int) -> int:
    """Give a training the checkpoints of an earlier, shorter training with equal settings, as hard links if possible.

    Returns:
        The number of finished updates; 0 if there is no checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = [checkpoint for checkpoint in numbered(previous) if checkpoint.updates <= upto]
    for checkpoint in found:
        link_file(checkpoint.path, folder / checkpoint.path.name)
    return found[0].updates if found else 0
