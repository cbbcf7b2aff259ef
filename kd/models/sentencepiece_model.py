"""Read the settings of a sentencepiece model from its file.

sentencepiece's own Python reader and COMET need different versions of protobuf, so this module decodes the few fields
that it needs from protobuf's wire format (sentencepiece_model.proto of sentencepiece 0.2: ModelProto has pieces (1),
trainer_spec (2) and normalizer_spec (3)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.models.files import CODES, SEGMENTATION, VOCABULARY
from kd.models.integrity import COPY_AGAIN, check_file

_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_USER_DEFINED = 4  # SentencePiece.type (3)
_NORMALIZER = 3  # ModelProto.normalizer_spec
_NAME, _TABLE, _REMOVE_EXTRA = 1, 2, 4  # NormalizerSpec: name, precompiled_charsmap, remove_extra_whitespaces


def preprocessing(vocabulary: Path) -> dict[str, Any]:
    """Return a sentencepiece model's, or BPE codes', treatment of text, as recorded in `model.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    check_file(vocabulary)
    if vocabulary.name == CODES:
        return {"tool": "bpe", "model": CODES, "settings": SEGMENTATION, "tokenization": "moses"}
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


def normalisation_table(model: bytes) -> bytes:
    """Return the compiled normalisation table of a sentencepiece model; empty if it has none."""
    table = _fields(_fields(model)[_NORMALIZER][-1]).get(_TABLE, [b""])[-1]
    return table if isinstance(table, bytes) else b""


def user_defined(model: bytes) -> set[str]:
    """Return the pieces that are one token wherever they occur (placeholders)."""
    pieces = map(_fields, _fields(model)[1])
    return {piece[1][-1].decode() for piece in pieces if _number(piece, 3, 1) == _USER_DEFINED}


def with_normalisation(model: bytes, name: str, table: bytes) -> bytes:
    """Return a sentencepiece model with another normalisation table, which also joins and trims spaces.

    Args:
        model: The content of the model's file.
        name: The name of the normalisation.
        table: A compiled table, as `normalisation_table` returns it.
    """
    settings = _fields(_fields(model)[_NORMALIZER][-1])
    settings |= {_NAME: [name.encode()], _TABLE: [table], _REMOVE_EXTRA: [1]}
    parts = [data for number, data in _split(model) if number != _NORMALIZER]
    return b"".join([*parts, _field(_NORMALIZER, _message(settings))])


def _message(fields: Mapping[int, Sequence[Any]]) -> bytes:
    return b"".join(_field(number, value) for number, values in sorted(fields.items()) for value in values)


def _field(number: int, value: int | bytes) -> bytes:
    """Encode an integer or a length-delimited value."""
    if isinstance(value, int):
        return _encoded(number << 3) + _encoded(value)
    return _encoded(number << 3 | 2) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each field of a message, key included."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            at += size
        yield key >> 3, data[start:at]


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
