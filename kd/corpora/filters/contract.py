"""What a filter is: a small class with a config, asked pair by pair; it rewrites the sides or rejects the pair.

There are three shapes: a `Rewriter` mends a side, a `PairFilter` judges the text, a `ScoreFilter` a column's value.
Filters know nothing of files, counts or one another; `kd.corpora.cleaning` asks them in the recipe's order and counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from kd.corpora.ids import Pair

C = TypeVar("C", bound="FilterConfig")


@dataclass
class FilterConfig:
    """What every filter takes."""

    enabled: bool = True
    order: float = 0  # filters are asked by rising order; every kind has its own default, spaced in tens


class Filter(ABC, Generic[C]):
    """A reason to leave a pair out, or a way to mend it; made once a process, for one language pair.

    languages: BCP-47 codes of source and target. A filter that can say nothing about them says why in `idle`.
    """

    kind: ClassVar[str]
    config: ClassVar[type[FilterConfig]] = FilterConfig

    def __init__(self, config: C, languages: tuple[str, str]) -> None:
        self.settings = config
        self.languages = languages
        self.idle = ""  # why it does not apply, if it does not

    @classmethod
    def validate(cls, config: Any) -> None:
        """Raises ValueError, one sentence, for values that make no sense."""


class Rewriter(Filter[C]):
    """Mends text and rejects nothing."""

    @abstractmethod
    def rewrite(self, text: str) -> str:
        """One side, mended; applying it again changes nothing."""


class PairFilter(Filter[C]):
    """Rejects pairs by their text."""

    @abstractmethod
    def rejects(self, source: str, target: str) -> bool:
        """Whether the pair goes."""

    def rejects_each(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Tell of each pair whether `rejects` rejects it; some filters are faster at many pairs."""
        rejects = self.rejects
        return [rejects(source, target) for _, source, target in pairs]


class ScoreFilter(Filter[C]):
    """Rejects pairs by what stands beside their text, in a further column of the corpus."""

    column: str  # its name

    @abstractmethod
    def rejects_value(self, value: str | None) -> bool:
        """Whether the pair goes for its value in `column`; None where its corpus has no such column."""
