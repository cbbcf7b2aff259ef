"""Segment text with Moses' tokeniser and BPE codes, for models that were not trained with sentencepiece.

FAIR's WMT models, and most fairseq models of their time, expect text tokenised by Moses and segmented by fastBPE or
subword-nmt. Here sacremoses and subword-nmt do the same, so such a model can read and write raw text.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import read_object, write_json
from kd.base.records import record
from kd.models.files import CODES, SEGMENTATION
from kd.models.integrity import COPY_AGAIN, check_file
from kd.models.matching import FILLER, read_dictionary

_SEPARATOR = "@@"  # at the end of a piece that does not end a word
_WORD_END = "</w>"  # at the end of a word, in the codes
_UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Segmentation:
    """The settings for preparing text for BPE.

    Attributes:
        moses: Whether Moses' tokeniser splits the source, and its detokeniser joins the output.
        source: Language of the tokeniser.
        target: Language of the detokeniser.
        escape: Whether the tokeniser escapes characters (`&apos;` …).
        split_dashes: Whether the tokeniser splits at dashes (`well @-@ known`).
    """

    moses: bool = True
    source: str = "en"
    target: str = "en"
    escape: bool = True
    split_dashes: bool = True

    def write(self, folder: Path) -> None:
        """Write the settings beside the codes."""
        write_json(folder / SEGMENTATION, asdict(self))


def read_segmentation(folder: Path) -> Segmentation | None:
    """Return the settings in a model folder; None if it has no BPE codes."""
    if not (folder / CODES).is_file():
        return None
    path = folder / SEGMENTATION
    if not path.is_file():
        raise UserError(f"{folder} has {CODES} but no {SEGMENTATION}.", COPY_AGAIN)
    return record(Segmentation, read_object(path, COPY_AGAIN), SEGMENTATION)


class MosesBpe:
    """A segmenter with the methods of a sentencepiece processor that `Vocabulary` uses; ids are positions in `pieces`.

    Args:
        codes: A file of codes of subword-nmt or fastBPE.
        segmentation: The settings of the tokeniser.
        pieces: The symbols of the source's dictionary.

    Raises:
        UserError: The file is missing or does not contain codes.
    """

    def __init__(self, codes: Path, segmentation: Segmentation, pieces: Sequence[str]) -> None:
        from sacremoses import MosesDetokenizer, MosesTokenizer

        self._settings = segmentation
        self._bpe = _load(codes)
        self._tokenizer = MosesTokenizer(segmentation.source)
        self._detokenizer = MosesDetokenizer(segmentation.target)
        self._pieces = [_UNKNOWN, *pieces]
        self._number = {piece: number for number, piece in enumerate(self._pieces)}

    def encode(self, texts: Sequence[str], out_type: Any = int, num_threads: int = 1) -> list[Any]:
        """Return the pieces of each text: strings, numbers, or an array of numbers (`out_type="numpy"`)."""
        import numpy as np

        split = [self._encode(text) for text in texts]
        if out_type is str:
            return split
        numbers = [[self._number.get(piece, 0) for piece in each] for each in split]
        return numbers if out_type is int else [np.asarray(each, dtype=np.int32) for each in numbers]

    def _encode(self, text: str) -> list[str]:
        if self._settings.moses:
            text = self._tokenizer.tokenize(
                text,
                aggressive_dash_splits=self._settings.split_dashes,
                return_str=True,
                escape=self._settings.escape,
            )
        return str(self._bpe.process_line(text)).split()

    def decode(self, pieces: Sequence[str]) -> str:
        """Return the text of pieces."""
        text = (" ".join(pieces) + " ").replace(f"{_SEPARATOR} ", "").rstrip()
        return str(self._detokenizer.detokenize(text.split())) if self._settings.moses else text

    def id_to_piece(self, number: int) -> str:
        """Return a piece."""
        return self._pieces[number]

    def piece_to_id(self, piece: str) -> int:
        """Return the number of a piece, whether or not it ends a word."""
        return self._number.get(piece, self._number.get(piece + _SEPARATOR, 0))

    def unk_id(self) -> int:
        """Return the number of the unknown piece."""
        return 0

    def get_piece_size(self) -> int:
        """Return the number of pieces."""
        return len(self._pieces)


def check_codes(codes: Path, dictionaries: Iterable[Path]) -> None:
    """Check that most symbols of several characters in the dictionaries come from the codes.

    Raises:
        UserError: They belong to different models, or the file does not contain codes.
    """
    made = set(_load(codes).bpe_codes_reverse)
    for path in dict.fromkeys(dictionaries):
        symbols = [symbol for symbol in read_dictionary(path) if not symbol.startswith(FILLER)]
        longer = [symbol for symbol in symbols if len(symbol.removesuffix(_SEPARATOR)) > 1]
        known = sum(_comes_from(made, symbol) for symbol in longer)
        if known * 2 < len(longer):
            raise UserError(
                f"{known} of the {len(longer)} longer symbols of {path} come from the codes {codes}.",
                "Give the codes of the training; another segmentation gives nonsense.",
            )


def _comes_from(made: set[str], symbol: str) -> bool:
    return (symbol.removesuffix(_SEPARATOR) if symbol.endswith(_SEPARATOR) else symbol + _WORD_END) in made


def _load(codes: Path) -> Any:
    """Load codes of subword-nmt, or of fastBPE, which have a count as the third column and no header."""
    from subword_nmt.apply_bpe import BPE

    check_file(codes)
    try:
        lines = codes.read_text("utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{codes} is not UTF-8 text.", "Give the BPE codes of the training.") from None
    own = lines[:1] if lines[0].startswith("#version:") else []
    header, lines = own or ["#version: 0.2"], lines[len(own) :]
    merges = [line.rstrip("\r ").split(" ") for line in lines]
    for number, merge in enumerate(merges, 1 + len(own)):
        if len(merge) not in (2, 3) or (len(merge) == 3 and not merge[2].isdecimal()):
            raise UserError(
                f"{codes} is not a file of BPE codes: line {number} is not a pair of pieces.",
                "Give the codes that learn_bpe of subword-nmt or learnbpe of fastBPE wrote.",
            )
    return BPE(io.StringIO("\n".join([*header, *(" ".join(merge[:2]) for merge in merges)])))
