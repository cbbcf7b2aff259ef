"""Filters by characters: letters of scripts that neither language is written in, and markup that text does not have.

The scripts of a language follow from its code, or from the script in it (`sr-Latn`); unknown languages go through.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html.entities import html5

import regex

from kd.corpora.filters.contract import FilterConfig, PairFilter

# ISO 639 codes by script; names are those of Unicode's property Script. Sources: CLDR's supplemental data
# ("languageData"), the primary scripts. Languages written in several scripts stand in several lines.
_LANGUAGES = {
    "Latin": "af an ast az bar br bs ca ceb co cs cy da de en eo es et eu ff fi fil fo fr fy ga gd gl gn gsw ha haw hr "
    "hsb ht hu ia id ig is it jv kk ku la lb li ln lt lv mg mi ms mt nb nds nl nn no oc pl pt qu rm ro rw sc sco se sh "
    "sk sl sm sn so sq sr st su sv sw szl tk tl tn tr ts tt ug uz vec vi vo wa war wo xh yo zu",
    "Cyrillic": "ab az ba be bg ce cv kk ky mk mn os ru rue sah sh sr bs tg tk tt udm ug uk uz",
    "Greek": "el grc",
    "Arabic": "ar arz az ckb fa ku ms pa ps sd ug ur uz",
    "Hebrew": "he iw yi",
    "Armenian": "hy",
    "Georgian": "ka",
    "Devanagari": "bh bho hi mai mr ne new sa",
    "Bengali": "as bn bpy",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Oriya": "or",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Tibetan": "bo dz",
    "Myanmar": "my",
    "Ethiopic": "am ti",
    "Khmer": "km",
    "Mongolian": "mn",
    "Hangul": "ko",
    "Han": "ja ko wuu yue zh",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Bopomofo": "zh",
}
# ISO 15924 subtags that stand in language codes, where they are no Unicode script's own short name.
_SUBTAGS = {"Hans": "Han", "Hant": "Han", "Jpan": "Han Hiragana Katakana", "Kore": "Hangul Han"}


def scripts_of(language: str) -> tuple[str, ...]:
    """Unicode scripts that a language (a BCP-47 code) is written in; none for one that is not known here."""
    primary, *subtags = regex.split("[-_]", language)
    for subtag in subtags:
        if len(subtag) == 4 and subtag.isalpha():
            names = _SUBTAGS.get(subtag.title(), subtag.title())
            return tuple(name for name in names.split() if _is_script(name))
    return tuple(script for script, codes in _LANGUAGES.items() if primary.lower() in codes.split())


def _is_script(name: str) -> bool:
    try:
        regex.compile(rf"\p{{Script={name}}}")
    except regex.error:
        return False
    return True


@dataclass
class ScriptsConfig(FilterConfig):
    """Of `Scripts`."""

    order: float = 50
    most: float = 0.5  # share of a side's letters that may be of other scripts
    latin: bool = True  # Latin letters are at home everywhere: names, units, code


class Scripts(PairFilter[ScriptsConfig]):
    """A side whose letters are mostly not of the scripts of its language."""

    kind = "scripts"
    config = ScriptsConfig

    def __init__(self, config: ScriptsConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        self._sides = [_Expected(scripts, config) if (scripts := scripts_of(code)) else None for code in languages]
        unknown = [code for code, side in zip(languages, self._sides, strict=True) if side is None]
        self.idle = f"the scripts of {' and '.join(unknown)} are not known" if unknown else ""

    @classmethod
    def validate(cls, config: ScriptsConfig) -> None:
        """A share is between 0 and 1."""
        if not 0 <= config.most <= 1:
            raise ValueError("most is a share, 0 to 1")

    def rejects(self, source: str, target: str) -> bool:
        """Whether a side has too many strange letters."""
        left, right = self._sides
        return (left is not None and left.too_strange(source)) or (right is not None and right.too_strange(target))


class _Expected:
    """The letters of a side's scripts. Each character is classified once and remembered."""

    def __init__(self, scripts: tuple[str, ...], config: ScriptsConfig) -> None:
        names = (*scripts, "Common", "Inherited", *(("Latin",) if config.latin else ()))
        at_home = "".join(rf"\p{{Script={name}}}" for name in names)
        self._strange_letter = regex.compile(rf"[\p{{L}}--[{at_home}]]", regex.VERSION1)
        self._most = config.most
        self._known: set[str] = set()
        self._strange: set[str] = set()
        self._ascii = config.latin or "Latin" in scripts

    def too_strange(self, text: str) -> bool:
        if self._ascii and text.isascii():
            return False
        characters = set(text)
        for character in characters - self._known:
            self._known.add(character)
            if self._strange_letter.match(character):
                self._strange.add(character)
        if not self._strange or characters.isdisjoint(self._strange):
            return False
        letters = sum(map(str.isalpha, text))
        return sum(text.count(character) for character in characters & self._strange) > self._most * letters


@dataclass
class MarkupConfig(FilterConfig):
    """Of `Markup`."""

    order: float = 90
    mirrored: bool = True  # what both sides have alike stays: `<b>` in the strings of a program


_TAG = regex.compile(r"</?[A-Za-z][A-Za-z0-9:_-]*(?:\s[^<>]*)?/?>|<!--|-->|<!\[CDATA\[|\]\]>|<\?[a-z]+")
_ENTITY = regex.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_OTHER = regex.compile(
    r"(?:^|\s)@[-/,.]@(?=\s|$)|\uFFFD|\{\\[a-z]+\d*|\[/?(?:b|i|u|url|img|quote)\]|\[\[(?=\w)|\{\{(?=\w)"
)


class Markup(PairFilter[MarkupConfig]):
    """Leftovers of other formats: tags, entities, Moses' `@-@`, codes of wikis and boards, U+FFFD of a bad conversion.

    Unless told otherwise only those that one side has and the other has not.
    """

    kind = "markup"
    config = MarkupConfig

    def rejects(self, source: str, target: str) -> bool:
        """Whether there is markup, or markup on one side alone."""
        if _is_plain(source) and _is_plain(target):
            return False
        left, right = _leftovers(source), _leftovers(target)
        return left != right if self.settings.mirrored else bool(left or right)


def _is_plain(text: str) -> bool:
    """A fast look that most lines pass."""
    return not (
        "<" in text or ">" in text or "&" in text or "@" in text or "\ufffd" in text
        or "[" in text or "{" in text
    )  # fmt: skip


def _leftovers(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    if "<" in text or ">" in text:
        found.update(regex.split(r"[\s/>]", tag.lstrip("</"))[0].lower() + "<" for tag in _TAG.findall(text))
    if "&" in text:
        # Formulae of spreadsheets have `&E2;`: only entities that exist count.
        found.update(name for name in _ENTITY.findall(text) if name[1] == "#" or name[1:] in html5)
    found.update(leftover.strip() for leftover in _OTHER.findall(text))
    return found
