"""Language identification: reject a pair with a side that is clearly in another language than the corpus states.

The filter applies only to sufficiently long text, in languages that the model has (kd/models/languages.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kd.corpora.filters.contract import FilterConfig, PairFilter
from kd.corpora.ids import Pair
from kd.models.languages import LanguageIdentifier, primary


@dataclass
class LanguageConfig(FilterConfig):
    """Settings of `Language`."""

    order: float = 100
    letters: int = 40  # sides with fewer letters pass: identification of a few words is unreliable
    sure: float = 0.8  # least probability of another language, 0 to 1
    least: float = 0.05  # a side passes if its own language has this probability, whatever else is more probable


# Characters of a sentence that are looked at first: mostly enough, in half the time of the whole sentence.
FIRST_LOOK = 50
MANY = 100_000  # pairs from which on the faster first look is worth the seconds until it is compiled and loaded

# Varieties that the model cannot tell from one another.
_ALIKE = (
    frozenset(("no", "nb", "nn", "da")),
    frozenset(("hr", "sr", "bs", "sh", "me")),
    frozenset(("id", "ms")),
    frozenset(("zh", "wuu", "yue")),
    frozenset(("fa", "prs")),
    frozenset(("ar", "arz")),
    frozenset(("gl", "pt")),
)


class Language(PairFilter[LanguageConfig]):
    """Reject pairs with a side in another language."""

    kind = "language"
    config = LanguageConfig
    one_sided = True

    def __init__(self, config: LanguageConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self._identifier = LanguageIdentifier()
        self._asked = 0  # pairs
        accepted = [self._accepted(code) for code in languages]
        self._source, self._target = accepted
        unknown = [code for code, codes in zip(languages, accepted, strict=True) if not codes]
        self.idle = f"the model does not support {' and '.join(unknown)}" if unknown else ""

    @classmethod
    def validate(cls, config: LanguageConfig) -> None:
        """Raise ValueError unless probabilities are between 0 and 1."""
        if not (0 <= config.sure <= 1 and 0 <= config.least <= 1):
            raise ValueError("sure and least must be probabilities, 0 to 1")

    def _accepted(self, language: str) -> tuple[str, ...]:
        code = primary(language)
        alike = next((group for group in _ALIKE if code in group), frozenset((code,)))
        return tuple(sorted(name for name in alike if self._identifier.knows(name)))

    def rejects(self, source: str, target: str) -> bool:
        """Return whether a side is surely in another language."""
        return self._is_other(source, self._source) or self._is_other(target, self._target)

    def rejects_each(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Return, for each pair, whether a side is surely in another language; many pairs get a faster first check."""
        self._asked += len(pairs)
        if self._asked < MANY:
            return super().rejects_each(pairs)
        return self._strange(
            ((self._source, [pair.source for pair in pairs]), (self._target, [pair.target for pair in pairs]))
        )

    def rejects_source(self, text: str) -> bool:
        """Return whether a source is surely in another language."""
        return self._is_other(text, self._source)

    def rejects_each_source(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Return, for each pair, whether its source is surely in another language, checked as in `rejects_each`."""
        self._asked += len(pairs)
        if self._asked < MANY:
            return super().rejects_each_source(pairs)
        return self._strange(((self._source, [pair.source for pair in pairs]),))

    def _strange(self, sides: Sequence[tuple[tuple[str, ...], Sequence[str]]]) -> Sequence[bool]:
        """Return, for each pair, whether one of the given sides, with the languages that it may have, is rejected."""
        rejected = [False] * len(sides[0][1])
        for accepted, texts in sides:
            for place in self._doubtful(texts, accepted):
                rejected[place] = rejected[place] or self._is_other(texts[place], accepted)
        return rejected

    def _doubtful(self, texts: Sequence[str], accepted: tuple[str, ...]) -> Iterator[int]:
        """Yield the positions of texts that are long enough and not surely in an accepted language."""
        places = [place for place, text in enumerate(texts) if len(text) >= self.settings.letters]
        if not accepted or not places:
            return
        heads = [text[:FIRST_LOOK] if not text.isupper() else text.lower()[:FIRST_LOOK] for text in texts]
        for place, surely in zip(places, self._identifier.surely([heads[p] for p in places], accepted), strict=True):
            if not surely:
                yield place

    def _is_other(self, text: str, accepted: tuple[str, ...]) -> bool:
        if not accepted or len(text) < self.settings.letters or sum(map(str.isalpha, text)) < self.settings.letters:
            return False
        if text.isupper():
            text = text.lower()  # the model was trained on running text, and misjudges capitals
        if self._identifier.identify(text[:FIRST_LOOK])[0] in accepted:
            return False
        code, probability = self._identifier.identify(text)
        if code in accepted or probability < self.settings.sure:
            return False
        return all(self._identifier.probability(text, other) < self.settings.least for other in accepted)
