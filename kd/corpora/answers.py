"""Clean answers of language models: unwrap the translation, and recognise answers without one.

Quotes, Markdown and known lead-ins around a translation are removed only where the source has none. An answer
that still has several lines, refuses, or talks about the translation is not used. Copies of the source and other
languages are left to `guards.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PROBLEMS = ("empty", "refusal", "chatter", "lines", "source", "reasoning", "limit")

_THOUGHT = re.compile(r"\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_UNFINISHED_THOUGHT = re.compile(r"\s*<think(?:ing)?>")
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_STRONG = re.compile(r"(\*\*|__|`)(.+)\1")
_OPENING = {'"': '"', "'": "'", "“": "”", "„": "“”", "«": "»", "»": "«", "‘": "’", "‚": "‘’", "「": "」", "『": "』"}
# `Here is the translation:`, `Sure! Here's the German text:`, `The translation is:`
_LEAD_IN = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n:]{0,30}?)?"
    r"(?:here(?:['’]s|\s+is|\s+are)\b[^\n:]{0,80}|(?:the|your|my)\s+(?:[\w-]+\s+){0,2}translation\b[^\n:]{0,60})"
    r":\s*(?=\S)",
    re.IGNORECASE,
)
_LABELS = ("translation", "translated text", "target", "output")
_ABOUT_TRANSLATING = re.compile(
    r"translat|übersetz|tradu|vertal|vertaal|övers[aä]t|overs[aæ]t|kään|fordít|tłumacz|přelo|překl|tõlk|перев|перекл|翻|번역",
    re.IGNORECASE,
)
_SORRY = re.compile(
    r"(?:\W*(?:i['’]?m|i am)\s+(?:very\s+|so\s+)?sorry|\W*sorry|\W*i\s+apologi[sz]e|\W*unfortunately"
    r"|\W*i\s*(?:['’]m|\s+am)\s+(?:not able|unable)|\W*i\s+(?:can\s?not|can['’]t|won['’]t|must decline)|\W*as an ai\b)",
    re.IGNORECASE,
)
_META = re.compile(
    r"\btranslat|\bas an ai\b|\blanguage model\b|\b(?:this|your|that) request\b|\bguidelines\b|\bcontent policy\b"
    r"|\b(?:assist|help) (?:you )?with (?:this|that)\b",
    re.IGNORECASE,
)
_AI = re.compile(
    r"language model|sprachmodell|modèle de langage|modelo de lenguaje|modelo de linguagem|modello linguistico"
    r"|taalmodel|språkmodell|sprogmodel|kielimall|nyelvi modell|model językow|jazykov\w+ model|языков\w+ модел",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"\b(?:here(?:['’]s| is) (?:the|a|your) translation|the translation (?:of|is)\b|translates? (?:to|as)\b"
    r"|translated text)",
    re.IGNORECASE,
)
# In another language than English these words are no translation.
_ENGLISH_CHATTER = re.compile(
    r"\b(?:let me know if|(?:i )?hope this helps|please note that|note that the|feel free to)\b", re.IGNORECASE
)


class Cleaned(NamedTuple):
    """A cleaned answer.

    Attributes:
        text: The translation, on one line; empty if there is a problem.
        unwrapped: Names of the parts that were removed around it: reasoning, fence, lead-in, quotes, Markdown, source.
        problem: One of PROBLEMS if the answer cannot be used, else None.
    """

    text: str
    unwrapped: tuple[str, ...] = ()
    problem: str | None = None


def clean(source: str, answer: str | None, ending: str, target: str, name: str) -> Cleaned:
    """Clean an answer.

    Args:
        source: The text that was to be translated.
        answer: The model's answer; None if the server gave none.
        ending: The server's reason for the end of the answer: `stop`, `length`, `content_filter`.
        target: The code of the target language without region: `de`.
        name: Its English name, which models put in front of a translation: `German: …`.
    """
    if ending == "content_filter":
        return Cleaned("", (), "refusal")
    text, unwrapped = (answer or "").strip(), []
    if thought := _THOUGHT.match(text):
        text, unwrapped = text[thought.end() :].strip(), ["reasoning"]
    if _UNFINISHED_THOUGHT.match(text):
        return Cleaned("", (), "reasoning")
    if ending == "length":
        return Cleaned("", (), "limit")
    while found := _unwrap(source, text, name):
        text, what = found
        unwrapped.append(what)
    text = " ".join(line.strip() for line in text.split("\n")) if "\n" in source else text
    problem = _problem(source, text, target)
    return Cleaned("" if problem else text, tuple(unwrapped), problem)


def _unwrap(source: str, text: str, name: str) -> tuple[str, str] | None:
    """Return a text without its outermost wrapping, and the wrapping's name; None if it has no wrapping."""
    if "```" not in source and (match := _FENCE.fullmatch(text)):
        return match[1].strip(), "fence"
    if (match := _LEAD_IN.match(text)) and not _LEAD_IN.match(source) and not _says_translate(source):
        return text[match.end() :].strip(), "lead-in"
    for label in (name, *_LABELS):
        start = f"{label}:".casefold()
        if text.casefold().startswith(start) and ":" not in source[: len(start) + 10]:
            return text[len(start) :].strip(), "lead-in"
    if "\n" in text and text.startswith(f"{source.strip()}\n"):
        return text[len(source.strip()) :].strip(), "source"
    if (match := _STRONG.fullmatch(text)) and match[1] not in source and match[1] not in match[2]:
        return match[2].strip(), "Markdown"
    inner, closing = text[1:-1], _OPENING.get(text[:1], "")
    if inner and text[-1] in closing and source.strip()[:1] not in _OPENING and not {text[0], text[-1]} & set(inner):
        return inner.strip(), "quotes"
    return None


def _problem(source: str, text: str, target: str) -> str | None:
    if not text:
        return "empty"
    if _refuses(source, text, target):
        return "refusal"
    about = _says_translate(source)
    if not about and (_CHATTER.search(text) or (target != "en" and _ENGLISH_CHATTER.search(text))):
        return "chatter"
    if "\n" in text:
        return "lines"
    if len(source.split()) >= 4 and source.strip() in text and 2 * len(text) > 3 * len(source):
        return "source"
    return None


def _refuses(source: str, text: str, target: str) -> bool:
    """Return whether a text is a refusal: an apology that talks about the request, or one of a language model.

    `I'm sorry, I can't help you.` may be a translation, so an apology alone does not count.
    """
    if _says_translate(source) or _AI.search(source):
        return False
    if _SORRY.match(text) and (_META.search(text) or target != "en"):
        return True
    return _AI.search(text) is not None and "AI" not in source.split()


def _says_translate(text: str) -> bool:
    return _ABOUT_TRANSLATING.search(text) is not None
