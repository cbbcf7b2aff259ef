"""The sentences on what a student learned from its teachers: text, token distributions, a start from their layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lessons(settings: Mapping[str, Any]) -> str:
    """Say what a training took from its teachers, in one or two sentences.

    Args:
        settings: Those of the training, as its manifest has them; an older one lacks `distill` and `start`.
    """
    distill, start = settings.get("distill") or {}, settings.get("start") or {}
    alpha, end = distill.get("alpha") or 0, distill.get("end_alpha")
    sentences = ["It learned the text that selection kept."]
    if alpha or end:
        weight = f"{alpha:g}" if end is None else f"{alpha:g} to {end:g}"
        top = distill.get("top")
        kept = f"the {top} most probable tokens of each position" if top else "the whole vocabulary"
        sentences = [
            f"It learned the text that selection kept and the teachers' token distributions (weight {weight}, {kept})."
        ]
    if start.get("layers"):
        sentences.append("It started from layers of a teacher, and so did the control.")
    return " ".join(sentences)
