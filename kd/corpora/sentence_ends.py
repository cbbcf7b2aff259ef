"""Find the ends of sentences by sentencex's rules (Wikimedia), except after ordinals and abbreviations.

A false end does more harm than a missed one, since the model then translates half a sentence. So doubtful ends are
dropped, as in `A 2003. évi törvény`, `Art. 5` and `1. FC Köln`.
"""

from __future__ import annotations

import re

from kd.models.languages import primary

# Languages that write ordinal numbers with a full stop, also before nouns with a capital
_ORDINALS = {"bs", "cs", "da", "de", "et", "fi", "fo", "hr", "hu", "is", "lb", "lv", "nb", "nn", "no", "pl", "sk", "sl",
             "sr", "tr"}  # fmt: skip
# Abbreviations before a number or another of them, in any language
_LIST = (
    "abs al anl anm app approx art arts bd bek blz ca cap cf ch chap cikk eq ext fig figs gem jf jfr kap "
    "kb kl klo ks lid lit mom n no nos nr nrs p par pkt pp prop ref reg réf s sec sect st stk tab tbl tel "
    "tz vgl vol zie ziff "
)
_NUMBERED = frozenset(_LIST.split())
# Abbreviations that never end a sentence, by language: titles, and those that introduce something
_OPEN = {
    language: frozenset(words.split())
    for language, words in {
        "en": "mr mrs ms dr prof st lt col gen sen rep gov hon capt vs e.g i.e cf",
        "fr": "m mm mme mmes mlle dr pr st ste me mgr cf p.ex",
        "de": "hr fr fa dr prof st hl ing dipl z.b d.h u.a v.a bzw vgl gem",
        "hu": "dr kb pl ifj özv sz st ún ill vö",
        "fi": "esim ks ns ko mm dr prof tri vrt st",
        "da": "hr fr dr prof f.eks bl.a jf skt",
        "nb": "hr fr dr prof f.eks bl.a jf",
        "nl": "dhr mevr mw dr prof ir ing bijv d.w.z o.a st zie",
        "sv": "hr fr dr prof t.ex bl.a d.v.s jfr s.k",
        "es": "sr sra srta dr dra prof p.ej st",
        "it": "sig dott prof ing st p.es",
        "pt": "sr sra dr dra prof p.ex",
    }.items()
}
_DAYS_AND_MONTHS = re.compile(
    "(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|January|February|March|April|May|June|July|August|September|October|"
    "November|December"
)
_LAST = re.compile(r"(\S+?)\.\s*$")  # the last word, without its full stop
_ROMAN = re.compile("[IVXLCDM]+")
_NUMBER = re.compile(r"\(?(\d|[IVXLC]+\b|[A-Z]\b)")
_LONGEST = 4  # letters of an unknown abbreviation


def sentences(text: str, language: str) -> list[str]:
    """Split a text after each sentence; the parts, joined, are the text.

    Args:
        text: Any text.
        language: Its BCP-47 code; English rules if it is empty.
    """
    import sentencex

    code = primary(language) or "en"
    found = list(sentencex.segment(code, text))
    if "".join(found) != text:
        return [text]
    joined: list[str] = []
    for part in found:
        if joined and _goes_on(joined[-1], part, code):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _goes_on(before: str, after: str, language: str) -> bool:
    """Return whether a sentence continues after an apparent end."""
    after = after.lstrip()
    match = _LAST.search(before)
    if not match or not after:
        return False
    word = match[1].lstrip("([\"'„“«‘")
    bare = word.lower().rpartition("'")[2].rpartition("’")[2]  # of l'art, art
    if word.isdecimal():
        return _is_ordinal(word, before[: match.start()], after, language)
    if after[0].islower():
        return len(word) <= _LONGEST or "." in word or bool(_ROMAN.fullmatch(word))
    if after[0] in "-–" and after[1:2].isalpha():  # J.-C.
        return True
    if language == "en" and bare in ("a.m", "p.m"):
        return bool(_DAYS_AND_MONTHS.match(after))
    if bare in _OPEN.get(language, ()):
        return True
    following = after.partition(" ")[0].rstrip(".").lower()
    return bare in _NUMBERED and (bool(_NUMBER.match(after)) or (following in _NUMBERED and "." in after.split()[0]))


def _is_ordinal(number: str, before: str, after: str, language: str) -> bool:
    """Return whether a number and its full stop are an ordinal: before lower case, § or, if it is short, a noun."""
    if after[0].islower() or after[0] == "§":
        return True
    if language not in _ORDINALS or len(number) > 2:
        return False
    words = before.split()
    previous = words[-1].lower() if words else ""
    return not (previous.endswith((".", "§")) or previous in _NUMBERED)  # in `Abs. 2.` and `Klo 12.` it is a cardinal
