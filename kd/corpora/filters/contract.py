"""What a filter is: a small class with a config, asked pair by pair; it rewrites the sides or rejects the pair.

Filters know nothing of files, counts or one another; `kd.corpora.cleaning` asks them in the recipe's order and counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

C = TypeVar("C", bound="FilterConfig")


@dataclass
class FilterConfig:
    """What every filter takes."""

    enabled: bool = True
    order: float = 0  # filters are asked by rising order; every kind has its own default, spaced in tens


class Filter(Generic[C]):
    """A reason to leave a pair out, or a way to mend it; made once a process, for one language pair.

    languages: BCP-47 codes of source and target. A filter that can say nothing about them says why in `idle`.
    """

    kind: ClassVar[str]
    config: ClassVar[type[FilterConfig]] = FilterConfig
    rewrites: ClassVar[bool] = False  # `rewrite` is called for each side, and nothing is rejected

    def __init__(self, config: C, languages: tuple[str, str]) -> None:
        self.settings = config
        self.languages = languages
        self.idle = ""  # why it does not apply, if it does not
        self.column: str | None = None  # of the corpus, whose value `rejects_value` is asked about instead of the text

    @classmethod
    def validate(cls, config: Any) -> None:
        """Raises ValueError, one sentence, for values that make no sense."""

    def rewrite(self, text: str) -> str:
        """One side, mended; applying it again changes nothing."""
        raise NotImplementedError

    def rejects(self, source: str, target: str) -> bool:
        """Whether the pair goes."""
        raise NotImplementedError

    def rejects_value(self, value: str | None) -> bool:
        """Whether the pair goes for its value in `column`; None where its corpus has no such column."""
        raise NotImplementedError
