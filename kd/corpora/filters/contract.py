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
        """Raise ValueError, with one sentence, for invalid values."""


class Rewriter(Filter[C]):
    """Rewrite text and reject nothing."""

    @abstractmethod
    def rewrite(self, text: str) -> str:
        """Return the rewritten side. Rewriting is idempotent."""


class PairFilter(Filter[C]):
    """Reject pairs by their text.

    Attributes:
        one_sided: Whether it judges sides one by one, and so applies to text without translations as well.
    """

    one_sided: ClassVar[bool] = False

    @abstractmethod
    def rejects(self, source: str, target: str) -> bool:
        """Return whether the pair is rejected."""

    def rejects_each(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Return, for each pair, whether `rejects` rejects it; some filters are faster on many pairs at once."""
        rejects = self.rejects
        return [rejects(source, target) for _, source, target in pairs]

    def rejects_source(self, text: str) -> bool:
        """Return whether the source side alone is rejected; only of a filter that is `one_sided`."""
        return self.rejects(text, text)

    def rejects_each_source(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Return, for each pair, whether its source is rejected, whatever its target."""
        rejects = self.rejects_source
        return [rejects(pair.source) for pair in pairs]


class ScoreFilter(Filter[C]):
    """Reject pairs by a value in an additional column of the corpus."""

    column: str  # its name

    @abstractmethod
    def rejects_value(self, value: str | None) -> bool:
        """Return whether a value in `column` rejects its pair; None: the corpus lacks the column."""
