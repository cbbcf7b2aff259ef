"""`model.json`: what a model folder that can be given away says of itself, whichever engine it is for.

Languages, what text goes through before the model reads it, and the fingerprints of what the model was made of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

DESCRIPTION = "model.json"
VOCABULARY = "vocabulary.model"
FORMAT = 1


@dataclass(frozen=True)
class Languages:
    """The direction of a model, in BCP-47 codes."""

    source: tuple[str, ...]
    target: tuple[str, ...]


def describe(
    engine: str,
    compute_type: str,
    *,
    languages: Languages,
    checkpoint: Path,
    vocabulary: Path,
    fingerprint: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `model.json` says. `checkpoint` is fairseq's, `run` what the run says of where the model comes from."""
    from kd.engines.fairseq.model import longest_pieces

    longest = longest_pieces(checkpoint)
    return {
        "format": FORMAT,
        "engine": engine,
        "compute_type": compute_type,
        "source_languages": list(languages.source),
        "target_languages": list(languages.target),
        "tags": [],  # what a source begins with to choose among several targets; models of one target need none
        "preprocessing": preprocessing(vocabulary),
        "max_source_pieces": longest["source"],  # what it was trained on; longer text is better cut
        "max_target_pieces": longest["target"],
        "fingerprint": fingerprint,
        "run": dict(run or {}),
        "made_with": {name: version(name) for name in ("ctranslate2", "fairseq", "sentencepiece")},
    }


def preprocessing(vocabulary: Path) -> dict[str, Any]:
    """What a sentencepiece model does to text, as the model itself says."""
    model = _fields(vocabulary.read_bytes())
    pieces = [_fields(piece) for piece in model[1]]
    trainer, normalizer = _fields(model[2][-1]), _fields(model[3][-1])
    return {
        "tool": "sentencepiece",
        "model": VOCABULARY,
        "kind": _KINDS.get(_number(trainer, 3, 1), "unknown"),
        "pieces": len(pieces),
        "normalization": normalizer[1][-1].decode() if normalizer.get(1) else "",
        "add_dummy_prefix": bool(_number(normalizer, 3, 1)),
        "remove_extra_whitespaces": bool(_number(normalizer, 4, 1)),
        "byte_fallback": bool(_number(trainer, 35, 0)),
        "split_digits": bool(_number(trainer, 25, 0)),
        "placeholders": sum(_number(piece, 3, 1) == _USER_DEFINED for piece in pieces),  # one symbol each
        "tokenization": None,  # text is given as it is written
    }


# sentencepiece_model.proto of sentencepiece 0.2: ModelProto has pieces (1), trainer_spec (2) and normalizer_spec (3).
# Its own reader for Python wants another protobuf than COMET does.
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_USER_DEFINED = 4  # SentencePiece.type (3)


def _fields(data: bytes) -> dict[int, list[Any]]:
    """The fields of a message in protobuf's wire format by number: integers, or bytes."""
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
    """A scalar field, the last one given, as protobuf has it."""
    return int(fields[number][-1]) if number in fields else default


def read_description(folder: Path) -> dict[str, Any]:
    """What a folder says of itself; nothing where it does not."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content
