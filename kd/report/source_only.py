"""Source-only text on the page: its part of the student's corpus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kd.pipeline.model import Artifact
from kd.recipe.schema.running import SystemRole
from kd.report import formatting as form

SOURCE_ONLY = "source-only text"  # fact of the data of a training, and of the training


@dataclass(frozen=True)
class SourceOnly:
    """The part of the student's corpus that is teachers' translations of text without human translations."""

    sentences: int
    tokens: int  # target tokens
    share: float  # of all target tokens of the corpus, 0 to 1

    @property
    def in_words(self) -> str:
        """Return the part in words: `1,234 source-only sentences (5,678 target tokens, 31% of its corpus)`."""
        tokens = f"{form.count(self.tokens)} target tokens, {form.percent(self.share)} of its corpus"
        return f"{form.count(self.sentences)} source-only sentences ({tokens})"


def source_only(trainings: Iterable[Artifact]) -> SourceOnly | None:
    """Return the record of the student, added up over language pairs; None without such text.

    Args:
        trainings: Trainings; of several members of a student, the first counts.
    """
    found: dict[str | None, Mapping[str, int]] = {}
    for each in trainings:
        if each.label == SystemRole.student.value and SOURCE_ONLY in each.manifest["facts"]:
            found.setdefault(each.axis, each.manifest["facts"][SOURCE_ONLY])
    if not found:
        return None
    sentences, tokens, everything = (
        sum(each[key] for each in found.values()) for key in ("sentences", "target tokens", "target tokens of all")
    )
    return SourceOnly(sentences, tokens, tokens / max(1, everything))
