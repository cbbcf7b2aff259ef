"""Guards: checks that reject a hypothesis whatever its score, from the source and the hypothesis alone.

They aim for precision rather than recall: the tests measure how often they reject human translations. A hypothesis of
ordinary length costs a few microseconds, language identification not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import eq

from kd.corpora.filters.words import bare
from kd.models.languages import LanguageIdentifier, primary
from kd.recipe.schema import GuardsConfig

NAMES = ("empty", "unknown", "limit", "copy", "length", "repetition", "language")  # in the order of the checks

# Languages that identification takes for one another, or that share whole sentences: told apart only by long text.
NEAR = (
    {"da", "no", "nb", "nn", "sv"},
    {"bg", "bs", "cnr", "hr", "mk", "sh", "sl", "sr"},
    {"cs", "pl", "sk"},
    {"be", "bg", "mk", "ru", "rue", "uk"},
    {"af", "fy", "li", "nds", "nl", "vls", "zea"},
    {"als", "bar", "de", "gsw", "lb", "nds", "pfl"},
    {"an", "ast", "ca", "es", "ext", "gl", "oc", "pt"},
    {"co", "it", "lmo", "nap", "pms", "scn", "vec"},
    {"id", "jv", "min", "ms", "su"},
    {"gom", "hi", "mai", "mr", "ne", "sa"},
    {"az", "crh", "tk", "tr"},
    {"ba", "kk", "ky", "tt"},
    {"wuu", "yue", "zh"},
    {"en", "sco"},
    {"et", "fi", "vro"},
    {"ga", "gd"},
)
# What the identification model calls them.
SAME = {"nb": "no", "fil": "tl", "iw": "he", "in": "id", "cmn": "zh", "cnr": "sr"}

# Words that no sentence has twice in a row: conjunctions, and English articles.
NEVER_TWICE = {
    "da": {"og", "eller"},
    "de": {"und", "oder"},
    "en": {"the", "a", "an", "and", "or", "of"},
    "es": {"y", "o"},
    "fi": {"ja", "tai"},
    "fr": {"et", "ou"},
    "hu": {"és", "vagy"},
    "it": {"e", "o"},
    "nb": {"og", "eller"},
    "nl": {"en", "of"},
    "no": {"og", "eller"},
    "pt": {"e", "ou"},
    "sv": {"och", "eller"},
}

UNSPACED = {"bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh"}  # a word is no thing between spaces
WIDE = {"ja": 3, "ko": 2, "wuu": 3, "yue": 3, "zh": 3}  # letters of an alphabet that a character stands for, roughly

_WIDE_CHARACTER = re.compile("[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]")
_UNIT = re.compile(r"[A-Za-z0-9\u00c0-\u024f]+|[^\sA-Za-z0-9\u00c0-\u024f]")
# What models write for symbols that they lack: sentencepiece's and fairseq's `<unk>`, and bytes that are not UTF-8.
_UNKNOWN = re.compile(r"<unk>|[\u2047\ufffd]|(?<!\S)\u2581(?!\S)")
_LETTERS = re.compile(r"[^\W\d_]+")

PHRASE = 3  # words; a longer one that loops repeats an n-gram of NGRAM as often
NGRAM = 4  # Raunak et al. (2021)
UNSPACED_NGRAM = 8  # characters: about as much text
LEAST_SHARE = 4  # an n-gram counts if it makes up at least one in this many words of a text
DOUBLED_SHARE = 12  # the same of doubled words: `die die` and `sie sie` may both be right in a long sentence
LONG_WORD = 24  # characters; in shorter ones nothing can have looped far
LOOPS = 5  # times in a row within a word
_LOOP_IN_WORD = re.compile(rf"([^\W\d_][^\s]{{0,11}}?)\1{{{LOOPS - 1},}}")
_MOST_LONG_WORD = 2_000  # characters of a word that are looked at


class Guards:
    """Apply every guard that is switched on. Create one per language pair; it is not thread-safe.

    Language identification is used only for target languages that its model supports.
    """

    def __init__(self, config: GuardsConfig, source_language: str, target_language: str) -> None:
        self.config = config
        self._languages = (primary(source_language), primary(target_language))
        self._source = _Source("", self._languages[0])
        self._near = _near(self._languages[1])
        related = self._languages[0] in self._near
        self._copy = config.copy and not related  # `Jeg er her.` is Danish and Norwegian
        asked: dict[str, Callable[[str], bool]] = {
            "length": self._length,
            "repetition": self._repetition,
            "language": self._language,
        }
        self._asked = [(name, asked[name]) for name in NAMES if name in asked and getattr(config, name)]
        self._identifier: LanguageIdentifier | None = None
        if config.language:
            identifier = LanguageIdentifier()
            self._identifier = identifier if identifier.knows(_known_as(self._languages[1])) else None

    def check(self, source: str, hypothesis: str, limited: bool = False) -> str | None:
        """Return the name of the first guard that a hypothesis trips; None if it trips none, or the source is empty.

        Args:
            source: The text that was translated.
            hypothesis: Its translation.
            limited: Whether the search cut the hypothesis off at the longest output.
        """
        if source != self._source.text:
            self._source = _Source(source, self._languages[0])
        if not self._source.text.strip():
            return None
        if not hypothesis.strip():
            return "empty" if self.config.empty else None
        if self.config.unknown and _UNKNOWN.search(hypothesis) and not _UNKNOWN.search(source):
            return "unknown"
        if limited and self.config.limit:
            return "limit"
        if self._copy and self._is_copy(hypothesis):
            return "copy"
        for name, tripped in self._asked:
            if tripped(hypothesis):
                return name
        return None

    def _is_copy(self, hypothesis: str) -> bool:
        """Return whether it equals the source, ignoring case, spaces and punctuation; a short source does not count."""
        source = self._source
        if 2 * abs(len(hypothesis) - len(source.text)) > len(source.text):
            return False
        return bare(hypothesis) == source.bare and source.ordinary >= self.config.copy_words

    def _length(self, hypothesis: str) -> bool:
        """Return whether the lengths in characters differ too much, as in the cleaning filter `ratio`."""
        ours = _width(hypothesis, self._languages[1])
        theirs = self._source.width
        shorter, longer = (ours, theirs) if ours < theirs else (theirs, ours)
        slack = self.config.ratio_slack
        return longer + slack > self.config.max_ratio * (shorter + slack)

    def _repetition(self, hypothesis: str) -> bool:
        """Return whether it repeats a phrase over and over, unlike the source."""
        language = self._languages[1]
        words = _units(hypothesis, language)
        if len(set(words)) < len(words):  # else nothing repeats
            repeated = most_repeated(words, UNSPACED_NGRAM if language in UNSPACED else NGRAM)
            if repeated > self.config.repeats and repeated - self._source.repeated >= self.config.repeats:
                return True
            if self._never_twice(words) and not self._source.doubled:
                return True
        # Written as one: `Donaudonaudonaudonaudonau`.
        return any(len(word) >= LONG_WORD and loops(word) for word in hypothesis.split()) and not self._source.loops

    def _never_twice(self, words: Sequence[str]) -> bool:
        """Return whether a word is doubled that is never doubled in correct text, as in `the the`."""
        never = NEVER_TWICE.get(self._languages[1], set())
        return any(first == second and first.casefold() in never for first, second in pairwise(words))

    def _language(self, hypothesis: str) -> bool:
        """Return whether it is clearly in a language that is neither the target language nor closely related to it."""
        if self._identifier is None:
            return False
        config = self.config
        if len(hypothesis) < config.language_letters:
            return False
        found, probability = self._identifier.identify(hypothesis)
        if probability < config.language_probability or found in self._near:
            return False
        # Names, numbers, addresses and mark-up say nothing of the language around them.
        prose = " ".join(word for word in hypothesis.split() if _ordinary(word))
        if sum(map(len, _LETTERS.findall(prose))) < config.language_letters:
            return False
        found, probability = self._identifier.identify(prose)
        return probability >= config.language_probability and found not in self._near


class _Source:
    """Properties of a source that the guards need, computed lazily and once for its whole list of hypotheses."""

    def __init__(self, text: str, language: str) -> None:
        self.text = text
        self.width = _width(text, language)
        self._language = language
        self._bare: str | None = None
        self._repeated = -1

    @property
    def bare(self) -> str:
        if self._bare is None:
            self._bare = bare(self.text)
        return self._bare

    @property
    def ordinary(self) -> int:
        return sum(map(_ordinary, _units(self.text, self._language)))

    @property
    def repeated(self) -> int:
        if self._repeated < 0:
            self._repeated = most_repeated(
                _units(self.text, self._language), UNSPACED_NGRAM if self._language in UNSPACED else NGRAM
            )
        return self._repeated

    @property
    def doubled(self) -> int:
        return doubled(_units(self.text, self._language))

    @property
    def loops(self) -> bool:
        return any(len(word) >= LONG_WORD and loops(word) for word in self.text.split())


def most_repeated(words: Sequence[str], ngram: int = NGRAM) -> int:
    """Count how often a text repeats itself: phrases in a row, a dominant n-gram, doubled words and `one`.

    The n-grams are those of Raunak et al. (2021), "The Curious Case of Hallucinations in Neural Machine Translation",
    who call an output oscillatory if its top 4-gram occurs at least two times more often than the source's top 4-gram.
    Here an n-gram counts only if it makes up a quarter of the text, since long sentences may well have three `if the
    value is`. Phrases in a row and doubled words cover shorter repetitions. The count is at least 1, and the time is
    linear in the number of words.
    """
    twice = doubled(words)
    most = _in_a_row(words, 1) if twice else 1
    if twice * DOUBLED_SHARE >= len(words):
        most = max(most, 1 + twice)
    pairs = list(pairwise(words))
    if len(set(pairs)) == len(pairs):
        return most  # nor does anything longer repeat
    for period in range(2, PHRASE + 1):
        most = max(most, _in_a_row(words, period))
    counts = Counter(zip(*(words[start:] for start in range(ngram)), strict=False))
    filling = ngram * LEAST_SHARE
    return max(
        (count for gram, count in counts.items() if count > most and count * filling >= len(words) and _says(gram)),
        default=most,
    )


def doubled(words: Sequence[str]) -> int:
    """Count doubled words. A single one may be correct, as in `Menschen, die die Tür öffnen`."""
    if not any(map(eq, words, words[1:])):
        return 0
    return sum(first == second and _says(first) for first, second in pairwise(words))


def _in_a_row(words: Sequence[str], period: int) -> int:
    """Count the immediate repetitions of a phrase: `period` words, at least one of them with a letter or a digit."""
    longest = run = 0
    for place, same in enumerate(map(eq, words, words[period:])):
        run = run + 1 if same else 0
        if run > longest and _says(words[place : place + period]):
            longest = run
    return longest // period + 1


def _says(words: Iterable[str]) -> bool:
    """Return whether a phrase has a letter or a digit: ruled lines and dot leaders repeat legitimately."""
    return any(character.isalnum() for word in words for character in word)


def loops(word: str) -> bool:
    """Return whether a string of up to 12 characters that begins with a letter occurs at least five times in a row."""
    return _LOOP_IN_WORD.search(word, 0, _MOST_LONG_WORD) is not None


def _ordinary(word: str) -> bool:
    """Return whether a word is all letters without initial capital: no number, name, identifier, address or mark-up."""
    bare = word.strip(".,;:!?\"'()«»„“”‘’…-–—")
    return bare.isalpha() and not bare[0].isupper() if bare else False


def _units(text: str, language: str) -> list[str]:
    """Split a text into words: single characters where the script has no spaces."""
    return _UNIT.findall(text) if language in UNSPACED else text.split()


def _width(text: str, language: str) -> int:
    """Count characters; a character for a syllable or a word counts as several letters."""
    letters = WIDE.get(language)
    if letters is None:
        return len(text)
    return len(text) + (letters - 1) * len(_WIDE_CHARACTER.findall(text))


def _known_as(language: str) -> str:
    return SAME.get(language, language)


@lru_cache
def _near(language: str) -> frozenset[str]:
    """Return a language and the languages that detection confuses with it."""
    known = _known_as(language)
    near = {language, known}
    for group in NEAR:
        if language in group or known in group:
            near |= group
    return frozenset(near)
