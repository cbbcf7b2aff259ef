"""Add the normalisation of training text to a sentencepiece model, so that runtimes need not do it.

sentencepiece rewrites text by a table of character sequences. Here the table reproduces the normalisation that
`kd.engines.reading` applies before translation: NFC, no control characters, no characters that are invisible and
unknown to the vocabulary, single ordinary spaces. Rules that depend on neighbouring characters (joiners in emoji) are
left out.
"""

from __future__ import annotations

import io
import itertools
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from kd.base.scratch import scratch_folder
from kd.models.matching import load_processor
from kd.models.sentencepiece_model import normalisation_table, preprocessing, with_normalisation

NAME = "kd"
_SPACES = (*range(0x09, 0x0E), *range(0x1C, 0x20), 0x85, 0x2028, 0x2029)  # controls that separate words or lines
_VISIBLE = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_MARKS = 3  # combining marks of a letter, at most
_HANGUL = range(0xAC00, 0xD7A4)


def write_normalising(vocabulary: Path, out: Path) -> None:
    """Copy a sentencepiece model with the normalisation of training text added, if it has none of its own.

    Raises:
        UserError: The model is damaged.
    """
    content = vocabulary.read_bytes()
    if preprocessing(vocabulary)["normalization"] == "identity":
        processor = load_processor(vocabulary)
        known = frozenset("".join(processor.id_to_piece(number) for number in range(processor.get_piece_size())))
        unknown = frozenset(character for character in _candidates() if character not in known)
        hangul = any(ord(character) in _HANGUL for character in known)
        content = with_normalisation(content, NAME, _table(unknown, hangul))
    out.write_bytes(content)


@cache
def _table(unknown: frozenset[str], hangul: bool) -> bytes:
    """Compile the rules with sentencepiece; return its table."""
    import sentencepiece

    rules = dict(_rules(unknown.__contains__, hangul))
    with scratch_folder("kd-normaliser-") as folder:
        path = folder / "rules.tsv"
        path.write_text("".join(f"{_hex(source)}\t{_hex(target)}\n" for source, target in rules.items()), "utf-8")
        model = io.BytesIO()
        # Only a training compiles a table; its vocabulary is thrown away.
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c"]), model_writer=model, vocab_size=7, model_type="char",
            normalization_rule_tsv=str(path), hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    return normalisation_table(model.getvalue())


def _hex(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)


def _candidates() -> Iterator[str]:
    """Yield the characters that are replaced by a space or removed if a vocabulary lacks them."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Zs", "Cf") and character != " " and character not in _VISIBLE:
            yield character


def _rules(unknown: Callable[[str], bool], hangul: bool) -> Iterator[tuple[str, str]]:
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029):
        if code in _SPACES:
            yield chr(code), " "
        elif code:  # sentencepiece cannot map NUL
            # Windows-1252 read as Latin-1 is the commonest way to a control character of the second row.
            yield chr(code), bytes([code]).decode("cp1252", "ignore") if code >= 0x80 else ""
    for character in filter(unknown, _candidates()):
        yield character, " " if unicodedata.category(character) == "Zs" else ""
    yield from _compositions(unknown, hangul)


def _compositions(unknown: Callable[[str], bool], hangul: bool) -> Iterator[tuple[str, str]]:
    """Yield the sequences that NFC changes: letters with marks in every order, and characters that NFC replaces."""
    for code in range(0xA0, sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000 or (code in _HANGUL and not hangul):
            continue
        character = chr(code)
        parts = unicodedata.normalize("NFD", character)
        if parts == character or (unicodedata.category(character) == "Zs" and unknown(character)):
            continue
        composed = unicodedata.normalize("NFC", character)
        forms = {character, parts}
        if len(parts) <= 1 + _MARKS:
            for marks in itertools.permutations(parts[1:]):
                forms |= {unicodedata.normalize("NFC", parts[0] + "".join(marks[:kept])) + "".join(marks[kept:])
                          for kept in range(len(marks) + 1)}  # fmt: skip
        yield from ((form, composed) for form in sorted(forms)
                    if form != composed and unicodedata.normalize("NFC", form) == composed)  # fmt: skip
