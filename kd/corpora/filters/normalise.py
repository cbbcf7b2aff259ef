"""Normalisation: give equal text one spelling, without invisible characters; reject nothing.

Invisible characters stay where they are content: joiners in emoji and in Persian or Indic words, direction marks in
text with right-to-left letters.
"""

from __future__ import annotations

import html
import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import regex

from kd.corpora.filters.contract import FilterConfig, Rewriter


class Quotes(Enum):
    """The treatment of typographic quotation marks and apostrophes."""

    keep = "keep"
    plain = "plain"  # " and ' for all of them


@dataclass
class NormaliseConfig(FilterConfig):
    """Settings of `Normalise`."""

    order: float = 10
    unicode: str = "NFC"  # NFC | NFKC (turns m² into m2) | none
    characters: bool = True  # remove control characters, and invisible ones where they are no content
    whitespace: bool = True  # runs become one space, ends are trimmed; a single no-break space stays
    escapes: bool = True  # &quot; &apos; &amp; &lt; &gt; &#91; &#93; &#124; and @-@, which XML and Moses leave behind
    quotes: Quotes = Quotes.keep


# Windows-1252 read as Latin-1: the commonest way to a C1 control character, which no text contains on purpose.
# U+0085 is left out: as a line separator of its own it is whitespace.
_C1 = {code: bytes([code]).decode("cp1252", "ignore") or None for code in range(0x80, 0xA0) if code != 0x85}
_CONTROLS = dict.fromkeys((*range(0x09), *range(0x0E, 0x1C), 0x7F)) | _C1
_INVISIBLE = regex.compile(r"[\p{Cf}\uFFFE\uFFFF\uFDD0-\uFDEF]")
# Numbers and verses of Arabic script enclosed by a sign: format characters by category, and visible.
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RIGHT_TO_LEFT = regex.compile(r"[\p{Bidi_Class=R}\p{Bidi_Class=AL}--[\u061c\u200f]]", regex.VERSION1)
_EMOJI = regex.compile(r"[\p{Extended_Pictographic}\p{Emoji_Modifier}\uFE0F\u20E3\U000E0020-\U000E007F]")
# Latin, Greek and Cyrillic words are never joined or split by invisible characters; those of other scripts may be.
_JOINING = regex.compile(r"[[\p{L}\p{M}]--[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}]]", regex.VERSION1)
_WITHOUT_SPACES = regex.compile(r"[\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}\p{Script=Tibetan}]")
_RUN = regex.compile(r"\s{2,}|[\t\v\f\r\x1c-\x1f\x85\u2028\u2029]")
# What was escaped several times (`&amp;amp;lt;`) is one match, or a line of a megabyte would take as many rounds.
_ESCAPE = regex.compile(
    r"&(?:(?:amp|#0*38);)*(amp|lt|gt|quot|apos|#0*(?:34|38|39|60|62|91|93|124));| @(?=[-/])([-/])@ "
)
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»〝〞＂", '"') | dict.fromkeys("‘’‚‛‹›＇", "'"))


class Normalise(Rewriter[NormaliseConfig]):
    """Rewrite to NFC, single spaces and unescaped text, without control characters and meaningless invisible ones."""

    kind = "normalise"
    config = NormaliseConfig

    def __init__(self, config: NormaliseConfig, languages: tuple[str, str]) -> None:
        super().__init__(config, languages)
        forms: dict[str, Literal["NFC", "NFKC"]] = {"NFC": "NFC", "NFKC": "NFKC"}
        self._form = forms.get(config.unicode)
        self._escapes = config.escapes
        self._plain_quotes = config.quotes is Quotes.plain

    @classmethod
    def validate(cls, config: NormaliseConfig) -> None:
        """Raise ValueError unless the form is a composed Unicode form, or none."""
        if config.unicode not in ("NFC", "NFKC", "none"):
            raise ValueError("unicode must be NFC, NFKC or none")

    def rewrite(self, text: str) -> str:
        """Return the normalised side."""
        if not self._is_clean(text):
            # A step can create work for an earlier one (`&amp;amp;`). Each round shortens or composes the text.
            previous = None
            while previous != text:
                previous = text
                text = self._once(text)
        return text.translate(_QUOTES) if self._plain_quotes else text

    def _is_clean(self, text: str) -> bool:
        """Return whether a text surely needs no change, which holds for most lines."""
        return (
            text.isprintable()  # neither controls, invisible characters nor spaces other than the ordinary one
            and "  " not in text
            and text[:1] != " "
            and text[-1:] != " "
            and not (self._escapes and ("&" in text or "@" in text))
            and (text.isascii() or not self._form or unicodedata.is_normalized(self._form, text))
        )

    def _once(self, text: str) -> str:
        if self._escapes and ("&" in text or "@" in text):
            text = _ESCAPE.sub(_unescaped, text)
        if self.settings.characters:
            text = _without_invisible(text.translate(_CONTROLS))
        if self._form:
            text = unicodedata.normalize(self._form, text)
        if self.settings.whitespace:
            text = _RUN.sub(_one_space, text).strip()
        return text


def _unescaped(match: regex.Match[str]) -> str:
    return match[2] or html.unescape(f"&{match[1]};")


def _one_space(match: regex.Match[str]) -> str:
    """Return the space that replaces a run: typographic if the run has no other character, else ordinary."""
    run = match[0]
    return run[0] if run[0] in "\u00a0\u202f\u3000" and not run.strip(run[0]) else " "


def _without_invisible(text: str) -> str:
    if text.isprintable() or not _INVISIBLE.search(text):
        return text
    right_to_left = _RIGHT_TO_LEFT.search(text) is not None
    kept: list[str] = []
    for place, character in enumerate(text):
        if not _INVISIBLE.match(character) or _is_content(
            character, kept[-1:], text[place + 1 : place + 2], right_to_left
        ):
            kept.append(character)
    return "".join(kept)


def _is_content(character: str, before: list[str], after: str, right_to_left: bool) -> bool:
    previous = before[0] if before else ""
    if character in _DIRECTION:
        return right_to_left
    if character in ("\u200c", "\u200d"):  # ZWNJ, ZWJ
        return bool(_JOINING.match(previous)) or (
            character == "\u200d" and bool(_EMOJI.match(previous)) and after != ""
        )
    if character == "\u200b":  # ZWSP: where words end, in scripts that write none
        return bool(_WITHOUT_SPACES.match(previous))
    if character == "\u180e":
        return bool(regex.match(r"\p{Script=Mongolian}", previous))
    if "\U000e0020" <= character <= "\U000e007f":  # tags: the flag of England
        return bool(_EMOJI.match(previous))
    return character in _VISIBLE_FORMAT
