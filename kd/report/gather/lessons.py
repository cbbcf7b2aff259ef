"""The sentences on what a student learned from its teachers: text, token distributions, a start from their layers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def lessons(settings: Mapping[str, Any], selection: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return one or two sentences on what a training took from its teachers.

    Args:
        settings: Those of the training, as its manifest has them; an older one lacks `distill` and `start`.
        selection: Those of the selection of its text, where known.
    """
    text = "the text that selection kept"
    if selection.get("variant") == "top":
        text = f"the {selection['top']} best hypotheses of each source, one in each epoch in turn,"
    distill, start = settings.get("distill") or {}, settings.get("start") or {}
    alpha, end = distill.get("alpha") or 0, distill.get("end_alpha")
    sentences = [f"It learned {text.rstrip(',')}."]
    if alpha or end:
        weight = f"{alpha:g}" if end is None else f"{alpha:g} to {end:g}"
        top = distill.get("top")
        kept = f"the {top} most probable tokens of each position" if top else "the whole vocabulary"
        sentences = [f"It learned {text} and the teachers' token distributions (weight {weight}, {kept})."]
    if start.get("layers"):
        sentences.append("It started from layers of a teacher, and so did the control.")
    return " ".join(sentences)
