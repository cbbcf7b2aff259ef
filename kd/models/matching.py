"""Read vocabularies and dictionaries of models, and check that they belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.base.errors import UserError
from kd.base.files import read_json
from kd.models.integrity import COPY_AGAIN, check_file

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

FILLER = "madeupword"  # fairseq pads dictionaries with these
_OVERWRITE = " #fairseq:overwrite"
_ADDED = 2  # at most one in this many of CTranslate2's tokens is absent from the sentencepiece model


def load_processor(path: Path) -> SentencePieceProcessor:
    """Load a sentencepiece model.

    Raises:
        UserError: The file is missing, damaged or not a sentencepiece model.
    """
    from sentencepiece import SentencePieceProcessor

    check_file(path)
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise UserError(
            f"{path} is damaged or not a sentencepiece model.",
            "Copy it again, or give the sentencepiece model of the training.",
        ) from None


def read_dictionary(path: Path) -> list[str]:
    """Return the symbols of a fairseq dictionary, in order, without the four special symbols.

    Raises:
        UserError: The file is missing, or a line does not consist of a symbol and a number.
    """
    check_file(path)
    symbols = []
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, 1):
                symbol, space, count = line.rstrip("\n").removesuffix(_OVERWRITE).rpartition(" ")
                if not space or not count.isdecimal():
                    raise UserError(f"{path}, line {number}: a symbol and a number were expected.", COPY_AGAIN)
                symbols.append(symbol)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text.", COPY_AGAIN) from None
    return symbols


def pieces_of(path: Path) -> list[str]:
    """Return the pieces of a sentencepiece model, in order."""
    processor = load_processor(path)
    return [processor.id_to_piece(number) for number in range(processor.get_piece_size())]


def check_pieces(vocabulary: Path, dictionaries: Sequence[Path]) -> None:
    """Check that most symbols of the dictionaries are pieces of the sentencepiece model.

    fairseq may add fillers and language tags, so some symbols may not be pieces.

    Raises:
        UserError: Dictionaries and sentencepiece model belong to different models.
    """
    pieces = set(pieces_of(vocabulary))
    for path in dict.fromkeys(dictionaries):
        symbols = [symbol for symbol in read_dictionary(path) if not symbol.startswith(FILLER)]
        known = sum(symbol in pieces for symbol in symbols)
        if known * 2 < len(symbols):
            raise UserError(
                f"{known} of the {len(symbols)} symbols of {path} are pieces of {vocabulary}.",
                "Give the sentencepiece model of the training; any other segmentation gives nonsense.",
            )


def check_exported(vocabulary: Path, exported: Sequence[Path], description: Mapping[str, Any]) -> None:
    """Check that a sentencepiece model is the one that an exported model was trained with.

    Args:
        vocabulary: The sentencepiece model.
        exported: CTranslate2's lists of tokens.
        description: The content of `model.json`.

    Raises:
        UserError: The number of pieces differs from `model.json`, or most tokens are not pieces.
    """
    pieces = pieces_of(vocabulary)
    stated = (description.get("preprocessing") or {}).get("pieces")
    if stated is not None and stated != len(pieces):
        raise UserError(
            f"{vocabulary} is the vocabulary of another model: it has {len(pieces)} pieces, and model.json states "
            f"{stated}.",
            COPY_AGAIN,
        )
    known = set(pieces)
    for path in exported:
        tokens = _tokens(path)
        shared = sum(token in known for token in tokens)
        if shared * _ADDED < len(tokens):
            raise UserError(
                f"{vocabulary} is the vocabulary of another model: it has {shared} of the {len(tokens)} tokens of "
                f"{path}.",
                COPY_AGAIN,
            )


def _tokens(path: Path) -> list[str]:
    """Return CTranslate2's tokens, from its JSON list or from the text file of older versions."""
    check_file(path)
    if path.suffix == ".json":
        tokens = read_json(path, COPY_AGAIN)
    else:
        try:
            tokens = path.read_text("utf-8").rstrip("\n").split("\n")
        except ValueError:
            raise UserError(f"{path} is damaged: it is not UTF-8.", COPY_AGAIN) from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"{path} is damaged: it is not a list of tokens.", COPY_AGAIN)
    return tokens
