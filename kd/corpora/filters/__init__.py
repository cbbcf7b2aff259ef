"""The kinds of filters by name, and the recipe's filters as objects.

The kinds and their counterparts in the two best-known collections of filters:

| here       | OpusFilter 3.3                                      | OpusCleaner 0.7                               |
| ---------- | --------------------------------------------------- | --------------------------------------------- |
| normalise  | WhitespaceNormalizer, RegExpSub, bifixer            | normalize_whitespace, deescape_*, fix_quotes  |
| empty      | LengthFilter                                        | remove_empty_lines                            |
| length     | LengthFilter, LongWordFilter                        | max_length, max_word_length                   |
| ratio      | LengthRatioFilter                                   | src_trg_ratio                                 |
| scripts    | CharacterScoreFilter, AlphabetRatioFilter           | alpha_ratio                                   |
| copies     | SimilarityFilter                                    |                                               |
| repetition | RepetitionFilter                                    | remove_frequent_patterns                      |
| numbers    | NonZeroNumeralsFilter                               | num_mismatch                                  |
| markup     | HtmlTagFilter                                       | deescape_*                                    |
| language   | LanguageIDFilter, LinguaFilter, …                   | fasttext_filter, langid                       |
| score      | WordAlignFilter, SentenceEmbeddingFilter, …         | laser_similarity, bicleaner_hardrules         |

Neither is a dependency. OpusFilter 3.3.1 requires some twenty packages, among them scikit-learn, pandas, graphviz,
Morfessor, subword-nmt, a Moses tokeniser in C++ and opustools, for filters of a few lines each that score pairs of
strings and support neither ids nor reasons. OpusCleaner 0.7.1 pins fastapi 0.78 (and with it pydantic 1), uvicorn,
babel and xxhash to exact versions, and its filters are scripts that read standard input, one process each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from kd.base.errors import UserError
from kd.base.text import did_you_mean
from kd.corpora.filters.characters import Markup, Scripts
from kd.corpora.filters.contract import Filter, FilterConfig
from kd.corpora.filters.language import Language
from kd.corpora.filters.lengths import Empty, Length, Ratio
from kd.corpora.filters.normalise import Normalise
from kd.corpora.filters.numbers import Numbers
from kd.corpora.filters.score import Score
from kd.corpora.filters.words import Copies, Repetition

KINDS: dict[str, type[Filter[Any]]] = {
    each.kind: each
    for each in (
        Normalise,
        Empty,
        Length,
        Ratio,
        Scripts,
        Copies,
        Repetition,
        Numbers,
        Markup,
        Language,
        Score,
    )
}
DUPLICATES = "duplicates"  # the label of deduplication in counts, which no filter may have


@dataclass(frozen=True)
class Setting:
    """A filter of the recipe: its label in the counts, its kind and its config."""

    label: str
    kind: str
    config: FilterConfig

    def make(self, languages: tuple[str, str]) -> Filter[Any]:
        """Make the filter."""
        return KINDS[self.kind](self.config, languages)


def parse(filters: Mapping[str, Any], where: str = "clean.filters") -> list[Setting]:
    """Return the filters that are switched on, in the order in which they are applied.

    Each value is a mapping with `kind` (by default the label), `enabled`, `order` and the kind's own keys; null
    switches a filter off. Raises UserError for any other key and suggests the nearest existing key.
    """
    settings = [
        _setting(str(label), value, f"{where}.{label}") for label, value in filters.items() if value is not None
    ]
    enabled = [setting for setting in settings if setting.config.enabled]
    return sorted(enabled, key=lambda setting: (setting.config.order, setting.label))


def _setting(label: str, value: Any, where: str) -> Setting:
    if not isinstance(value, Mapping):
        raise UserError(
            f"{where} is {value!r}.", f"Give it a mapping of settings, {where}.enabled=false, or null to switch it off."
        )
    if label == DUPLICATES:
        raise UserError(f"A filter cannot be called {label}.", "Set clean.duplicates to remove repeated pairs.")
    given = {str(key): item for key, item in value.items()}
    kind = str(given.pop("kind", None) or label)
    if kind not in KINDS:
        key = f"{where}.kind" if "kind" in value else where
        raise UserError(f"There is no kind of filter called {kind} (named by {key}).", _nearest(kind, KINDS))
    config = _typed(kind, given, where)
    try:
        KINDS[kind].validate(config)
    except ValueError as error:
        raise UserError(f"{where}: {error}.", "Correct it in the recipe or on the command line.") from None
    return Setting(label, kind, config)


def _typed(kind: str, given: Mapping[str, Any], where: str) -> FilterConfig:
    # Imported here: translating needs a filter of this package, and is installed without omegaconf.
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from kd.recipe.schema.values import wrong_value
    from kd.recipe.schema.walk import hints

    schema = KINDS[kind].config
    names = [field.name for field in fields(schema)]
    for key in given:
        if key not in names:
            raise UserError(f"There is no setting called {where}.{key}.", _nearest(key, [*names, "kind"]))
    config = OmegaConf.structured(schema)
    for key, item in given.items():
        try:
            config[key] = item
        except OmegaConfBaseException:
            error = wrong_value(f"{where}.{key}", hints(cast(Any, schema))[key], item)
            raise UserError(error.problem, f"{error.hint} Its default is {getattr(schema(), key)!r}.") from None
    typed = OmegaConf.to_object(config)
    assert isinstance(typed, FilterConfig)
    return typed


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return did_you_mean(name, names) or f"There are: {', '.join(names)}."
