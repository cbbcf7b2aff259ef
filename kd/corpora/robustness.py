"""The robustness suite: inputs like those of users, made from test sentences and fixed spans, equal for every system.

Each chosen test sentence is an input unchanged and in variants: in capitals, with other punctuation, twice in a line,
with an address, a number, an emoji, a placeholder or mark-up in it. Single words and single spans are further inputs. A
seed chooses the sentences and their spans, so the suite of a test set never changes. `kd/metrics/robustness.py` counts
the failures of systems on it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from kd.base.errors import IncompleteArtifact
from kd.base.records import record
from kd.corpora.hashing import sentence_hash
from kd.corpora.lines import open_lines
from kd.corpora.variants import PROTECTED, doubled_end, title_case, upper_case, with_full_stop, without_full_stop
from kd.corpora.writing import LineWriter

PURPOSE = "kd.robustness"
SHORTEST, LONGEST = 12, 150  # characters of a sentence that is preferred
WIDE_SHORTEST = 6  # of a sentence in a script whose characters are syllables or words
WORD = re.compile(r"[^\W\d_]{4,}")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

# example.com, .org and .net are reserved for documentation (RFC 2606).
EMAILS = ("info@example.org", "anna.berg+news@mail.example.com", "support_2@example.net")
URLS = (
    "https://www.example.org/docs/energy?x=1&y=2",
    "https://example.com",
    "http://shop.example.net/a_b/item-42.html#top",
)
NUMBERS = ("48151623", "7204918365", "900317446021")
EMOJI = ("🙂", "🔋", "🎉")
PLACEHOLDERS = ("{name}", "%1$s", "{{count}}")
TAGS = (("<b>", "</b>"), ("<i>", "</i>"), ('<a href="x.html">', "</a>"))
ALONE = (
    *EMAILS,
    *URLS,
    *NUMBERS,
    *EMOJI,
    *PLACEHOLDERS,
    "%s",
    "😀👍🏽",
    "3.14159",
    "192.168.0.17",
    "AB-4711-X",
    "&amp;",
    "<br/>",
)

KINDS = {
    "plain": "sentence as it is",
    "again": "the same sentence again",
    "twice": "sentence twice in a line",
    "upper": "ALL CAPS",
    "title": "Title Case",
    "unfinished": "without final full stop",
    "finished": "with a final full stop added",
    "doubled": "final mark doubled",
    "quotes": "in typographic quotes",
    "email": "with an e-mail address",
    "url": "with a URL",
    "number": "with a long number",
    "emoji": "with an emoji",
    "placeholder": "with a placeholder",
    "markup": "in mark-up",
    "mixed": "with an address, a number and a URL",
    "word": "single word",
    "upper word": "single word in capitals",
    "alone": "address, number, emoji or placeholder alone",
}
"""Kinds of inputs, and how tables name them."""


@dataclass(frozen=True)
class Case:
    """An input of the suite."""

    kind: str  # of KINDS
    source: str
    of: int | None = None  # place in the suite of the input that it is a variant of
    keep: list[str] = field(default_factory=list)  # spans that the translation must have as they are
    output: str = ""  # a system's translation


def suite(sources: Iterable[str], language: str, sentences: int, seed: int) -> list[Case]:
    """Make the suite of a test set.

    Args:
        sources: Its sources.
        language: Their language.
        sentences: Number of sentences to make variants from; all of a smaller test set.
        seed: Seed of the choice.
    """
    texts = list(dict.fromkeys(" ".join(text.split()) for text in sources))
    chosen = _chosen([text for text in texts if text], sentences, seed)
    draw = random.Random(seed)
    cases = [Case("plain", text) for text in chosen]
    for place, text in enumerate(chosen):
        cases += [replace(case, of=place) for case in _variants(text, language, draw)]
    for word in _words(chosen, sentences, draw):
        cases += [Case("word", word)]
        if upper_case(word, language) != word:
            cases += [Case("upper word", upper_case(word, language))]
    return [*cases, *(Case("alone", span, keep=[span]) for span in ALONE)]


def size(sentences: int) -> int:
    """Return the largest number of inputs in a suite of this number of sentences."""
    return sentences * (len(KINDS) - 1) + len(ALONE)


def _chosen(texts: Sequence[str], number: int, seed: int) -> list[str]:
    """Choose sentences by a hash, and prefer those of usual length without numbers or placeholders."""
    hash_of = sentence_hash(seed, PURPOSE)

    def order(text: str) -> tuple[bool, bool, int]:
        shortest = WIDE_SHORTEST if _WIDE.search(text) else SHORTEST
        unusual = not shortest <= len(text) <= LONGEST
        return unusual, any(map(str.isdigit, text)) or PROTECTED.search(text) is not None, hash_of(text)

    return sorted(texts, key=order)[:number]


def _variants(text: str, language: str, draw: random.Random) -> Iterator[Case]:
    """Yield the variants of a sentence that differ from it."""
    yield Case("again", text)
    yield Case("twice", f"{text} {text}")
    changed = {
        "upper": upper_case(text, language),
        "title": title_case(text, language),
        "unfinished": without_full_stop(text),
        "finished": with_full_stop(text, language),
        "doubled": doubled_end(text),
        "quotes": f"“{text}”",
    }
    yield from (Case(kind, variant) for kind, variant in changed.items() if variant != text)
    email, url, number, emoji, placeholder = map(draw.choice, (EMAILS, URLS, NUMBERS, EMOJI, PLACEHOLDERS))
    for kind, span in {"email": email, "url": url, "number": number, "placeholder": placeholder}.items():
        yield Case(kind, _inserted(text, f"({span})"), keep=[span])
    yield Case("emoji", f"{text} {emoji}", keep=[emoji])
    opening, closing = draw.choice(TAGS)
    yield Case("markup", f"{opening}{text}{closing}", keep=[opening, closing])
    yield Case("mixed", f"{number}: {_inserted(text, f'({email})')} {url}", keep=[number, email, url])


def _inserted(text: str, addition: str) -> str:
    """Put an addition before the final punctuation of a sentence."""
    bare = text.rstrip(".。।!?！？…:")
    return f"{bare} {addition}{text[len(bare) :]}"


def _words(texts: Sequence[str], number: int, draw: random.Random) -> list[str]:
    """Draw distinct words of the sentences."""
    words = sorted(
        {word for text in texts for word in WORD.findall(PROTECTED.sub(" ", text)) if not _WIDE.search(word)}
    )
    return draw.sample(words, min(number, len(words)))


def write_cases(path: Path, cases: Iterable[Case]) -> int:
    """Write the inputs with their translations, a line of JSON each; returns their number."""
    with LineWriter(path) as writer:
        for case in cases:
            writer.write(msgspec.json.encode(case).decode())
    return writer.lines


def read_cases(path: Path) -> list[Case]:
    """Read the inputs with their translations. Raises IncompleteArtifact if a line is damaged."""
    found: list[Case] = []
    for number, line in enumerate(open_lines(path), 1):
        try:
            case = record(Case, msgspec.json.decode(line), "case")
        except (ValueError, msgspec.DecodeError):
            raise IncompleteArtifact(f"{path}, line {number} is no input of a robustness suite.") from None
        if case.kind not in KINDS or (case.of is not None and not 0 <= case.of < len(found)):
            raise IncompleteArtifact(f"{path}, line {number}: kind {case.kind!r}, variant of {case.of}.")
        found.append(case)
    return found
