"""Records of trainings: their validations, and how much of data and time each had cost.

A validation without tokens or time (trained by an earlier version) still has its update.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kd.models.systems import SystemKind


@dataclass(frozen=True)
class CurvePoint:
    """A training at one update."""

    update: int
    dev_loss: float | None = None  # in bits a token where the training says no other
    dev_bleu: float | None = None
    train_loss: float | None = None  # mean since the line before
    target_tokens: float | None = None  # seen so far
    seconds: float | None = None  # trained so far, over all interruptions
    devices: int | None = None  # that train side by side

    @property
    def device_hours(self) -> float | None:
        """Hours of all devices together."""
        if self.seconds is None or self.devices is None:
            return None
        return self.seconds * self.devices / 3600


@dataclass(frozen=True)
class Curve:
    """The course of one training."""

    name: str
    kind: SystemKind
    points: list[CurvePoint] = field(default_factory=list)
    device: str = ""  # cpu, cuda, rocm; empty: not known

    @property
    def best_bleu(self) -> CurvePoint | None:
        """The first point with the highest BLEU on the development set."""
        measured = [point for point in self.points if point.dev_bleu is not None]
        return max(measured, key=lambda point: point.dev_bleu or 0.0, default=None)

    @property
    def best_loss(self) -> CurvePoint | None:
        """The first point with the lowest loss on the development set."""
        measured = [point for point in self.points if point.dev_loss is not None and point.dev_loss == point.dev_loss]
        return min(measured, key=lambda point: point.dev_loss or 0.0, default=None)
