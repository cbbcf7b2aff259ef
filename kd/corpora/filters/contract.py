"""The interface of filters: small classes with a config that rewrite the sides of a pair or reject it.

There are three kinds: a `Rewriter` changes a side, a `PairFilter` rejects pairs by their text, a `ScoreFilter` by the
value of a column. `kd.corpora.cleaning` applies them in the recipe's order, and counts.
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
    """Settings of every filter."""

    enabled: bool = True
    order: float = 0  # filters are applied in rising order; every kind has its own default, spaced in tens


class Filter(ABC, Generic[C]):
    """A filter of one language pair, made once in each process.

    Attributes:
        settings: The config.
        languages: BCP-47 codes of source and target.
        idle: The reason why the filter does not apply to these languages, if it does not.
    """

    kind: ClassVar[str]
    config: ClassVar[type[FilterConfig]] = FilterConfig

    def __init__(self, config: C, languages: tuple[str, str]) -> None:
        self.settings = config
        self.languages = languages
        self.idle = ""

    @classmethod
    def validate(cls, config: Any) -> None:
        """Raise ValueError, with one sentence, for values that make no sense."""


class Rewriter(Filter[C]):
    """Rewrites text and rejects nothing."""

    @abstractmethod
    def rewrite(self, text: str) -> str:
        """Return a side, rewritten. Rewriting the result changes nothing."""


class PairFilter(Filter[C]):
    """Rejects pairs by their text."""

    @abstractmethod
    def rejects(self, source: str, target: str) -> bool:
        """Tell whether the pair is rejected."""

    def rejects_each(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Tell of each pair whether `rejects` rejects it; some filters are faster at many pairs."""
        rejects = self.rejects
        return [rejects(source, target) for _, source, target in pairs]


class ScoreFilter(Filter[C]):
    """Rejects pairs by a value in a further column of the corpus."""

    column: str  # its name

    @abstractmethod
    def rejects_value(self, value: str | None) -> bool:
        """Tell whether a pair is rejected for its value in `column`; None if its corpus has no such column."""
