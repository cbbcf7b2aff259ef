"""The error for models that compute NaN: it names the members, the precision and the setting to change."""

from __future__ import annotations

from collections.abc import Sequence

from kd.base.errors import UserError

_SAFER = {"fp16": "bf16 or fp32", "bf16": "fp32"}


class NaNScores(UserError):
    """A model computed NaN: its numbers overflow in the precision used, or its weights contain NaN."""


def nan_scores(members: Sequence[int], precision: str, *, weights: Sequence[int] = (), one: bool = False) -> NaNScores:
    """Build the error.

    Args:
        members: The members that computed NaN, counted from 0; empty if unknown.
        precision: Their number format: fp32, fp16, bf16, or a type of CTranslate2.
        weights: Those members whose weights contain NaN.
        one: Whether there is only one model, which then has no number.
    """
    who = "The model" if one else _numbered(members) if members else "A member of the ensemble"
    what = f"{who} computed NaN in {precision}"
    if weights:
        whose = "its weights" if one or len(weights) == 1 else "their weights"
        return NaNScores(f"{what}: {whose} contain NaN.", "Train or copy the model again, or leave it out.")
    if precision in _SAFER:
        safer = _SAFER[precision]
        return NaNScores(
            f"{what}: values overflow that number format.",
            f"Set decode.precision to {safer}, or decode.retry_precision to decode only such shards again.",
        )
    if "16" in precision or "8" in precision:
        return NaNScores(f"{what}: values overflow that number format.", "Use float32.")
    return NaNScores(f"{what}.", "Train the model again with a lower learning rate, or leave it out.")


def _numbered(members: Sequence[int]) -> str:
    numbers = [str(member + 1) for member in members]
    if len(numbers) == 1:
        return f"Member {numbers[0]}"
    return f"Members {', '.join(numbers[:-1])} and {numbers[-1]}"
