"""Reads the settings of a sentencepiece model from its file.

sentencepiece's own reader for Python needs another version of protobuf than COMET does, so this module decodes the few
fields that it needs from protobuf's wire format (sentencepiece_model.proto of sentencepiece 0.2: ModelProto has pieces
(1), trainer_spec (2) and normalizer_spec (3)).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.models.files import VOCABULARY
from kd.models.integrity import COPY_AGAIN, check_file

_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_USER_DEFINED = 4  # SentencePiece.type (3)


def preprocessing(vocabulary: Path) -> dict[str, Any]:
    """Return how a sentencepiece model treats text, as `model.json` records it.

    Raises:
        UserError: The file is missing or damaged.
    """
    check_file(vocabulary)
    try:
        model = _fields(vocabulary.read_bytes())
        pieces = [_fields(piece) for piece in model[1]]
        trainer, normalizer = _fields(model[2][-1]), _fields(model[3][-1])
        normalization = normalizer[1][-1].decode() if normalizer.get(1) else ""
    except (IndexError, KeyError, TypeError, ValueError):
        raise UserError(f"{vocabulary} is damaged or not a sentencepiece model.", COPY_AGAIN) from None
    return {
        "tool": "sentencepiece",
        "model": VOCABULARY,
        "kind": _KINDS.get(_number(trainer, 3, 1), "unknown"),
        "pieces": len(pieces),
        "normalization": normalization,
        "add_dummy_prefix": bool(_number(normalizer, 3, 1)),
        "remove_extra_whitespaces": bool(_number(normalizer, 4, 1)),
        "byte_fallback": bool(_number(trainer, 35, 0)),
        "split_digits": bool(_number(trainer, 25, 0)),
        "placeholders": sum(_number(piece, 3, 1) == _USER_DEFINED for piece in pieces),  # one symbol each
        "tokenization": None,  # the text is not tokenised before
    }


def _fields(data: bytes) -> dict[int, list[Any]]:
    """Return the fields of a protobuf message by number: integers, or bytes."""
    if not isinstance(data, bytes):
        raise TypeError("a number where a message was expected")
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            found.setdefault(key >> 3, []).append(value)
            continue
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + size > len(data):
            raise ValueError("the message is cut short")
        found.setdefault(key >> 3, []).append(data[at : at + size])
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _number(fields: dict[int, list[Any]], number: int, default: int) -> int:
    """Return a scalar field; if it is repeated, the last value counts, as in protobuf."""
    value = fields[number][-1] if number in fields else default
    return value if isinstance(value, int) else default
