"""`model.json`: what a model folder that can be given away says of itself, whichever engine it is for.

Languages, what text goes through before the model reads it, and the fingerprints of what the model was made of.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.base.errors import UserError

DESCRIPTION = "model.json"
LANGUAGES = "languages.json"  # in the data folders and model folders of trainings on several language pairs
VOCABULARY = "vocabulary.model"
FORMAT = 1


@dataclass(frozen=True)
class Languages:
    """The directions of a model, in BCP-47 codes."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    tagged: bool = False  # whether each source begins with the symbol of the language to write
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # of a model of several: what it was trained on

    def to_json(self) -> dict[str, Any]:
        """As entries of `model.json`."""
        return {
            "source_languages": list(self.source),
            "target_languages": list(self.target),
            # What a source begins with to choose among several targets, in their order; models of one need none.
            "tags": [tag_of(language) for language in self.target] if self.tagged else [],
            **({"pairs": {name: list(languages) for name, languages in self.pairs.items()}} if self.pairs else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Languages:
        """Of what `to_json` gave, among other entries."""
        source, target = (tuple(content.get(f"{side}_languages") or ()) for side in ("source", "target"))
        pairs = {name: (one, other) for name, (one, other) in content.get("pairs", {}).items()}
        return cls(source, target, bool(content.get("tags")), pairs)


def tag_of(language: str) -> str:
    """The symbol that a source begins with to be translated into a language: `<2de>` (Johnson et al., 2017)."""
    return f"<2{language}>"


def read_languages(folder: Path) -> Languages:
    """What the model in a folder, exported or as a training left it, translates; nothing where it does not say."""
    path = folder / LANGUAGES
    return Languages.from_json(
        read_description(folder) or (json.loads(path.read_text("utf-8")) if path.is_file() else {})
    )


def known_languages(folder: Path, axis_value: Mapping[str, Any]) -> Languages:
    """What a model says of its languages; where it says nothing, those of the language pair that it was trained for."""
    known = read_languages(folder)
    if known.target or not axis_value:
        return known
    return Languages((str(axis_value["source"]),), (str(axis_value["target"]),))


def copy_languages(folder: Path, out: Path) -> None:
    """Takes along what a data folder or model folder says of its languages, where it says anything."""
    if (folder / LANGUAGES).is_file():
        shutil.copyfile(folder / LANGUAGES, out / LANGUAGES)


def tag_for(languages: Languages, to: str | None, where: object) -> str | None:
    """The tag that a model's sources begin with to be translated into `to`; None of a model that has no tags.

    Raises: UserError where the model has not that target, or has several and none is named.
    """
    if not languages.tagged:
        return None
    targets = ", ".join(languages.target)
    if to is None and len(languages.target) > 1:
        raise UserError(
            f"{where} translates into {targets}, and none of them was chosen.",
            f"Name one: --to {languages.target[0]}, or to='{languages.target[0]}' in Python.",
        )
    if to is not None and to not in languages.target:
        raise UserError(f"{where} does not translate into {to}.", f"Choose one of: {targets}.")
    return tag_of(to or languages.target[0])


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
        **languages.to_json(),
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
