"""`model.json` and `languages.json`: the languages of a model, and how to prepare text for it.

Every folder for distribution has a `model.json`; data folders and model folders of trainings on several language pairs
have a `languages.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import read_object
from kd.models.files import DESCRIPTION, LANGUAGES
from kd.models.integrity import COPY_AGAIN, check_file
from kd.models.sentencepiece_model import preprocessing

FORMAT = 1
FAIRSEQ, CTRANSLATE2 = "fairseq", "ctranslate2"
ENDPOINT = "endpoint"  # of a folder that describes a model behind a server
TRANSFORMERS, ARGOS, MARIAN, ONNX = "transformers", "argos", "marian", "onnx"
PACKAGED = (TRANSFORMERS, ARGOS, MARIAN, ONNX)  # of folders for other software, which kd writes and does not load


@dataclass(frozen=True)
class Languages:
    """The translation directions of a model, in BCP-47 codes.

    Attributes:
        source: Source languages.
        target: Target languages.
        tagged: Whether each source begins with the tag of its target language.
        pairs: For a model of several language pairs, its training pairs by name.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    tagged: bool = False
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entries of `model.json`."""
        return {
            "source_languages": list(self.source),
            "target_languages": list(self.target),
            # In the order of the targets; empty if the model has a single target and no tags.
            "tags": [tag_of(language) for language in self.target] if self.tagged else [],
            **({"pairs": {name: list(languages) for name, languages in self.pairs.items()}} if self.pairs else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Languages:
        """Read the entries that `to_json` wrote; ignore other entries."""
        source, target = (tuple(content.get(f"{side}_languages") or ()) for side in ("source", "target"))
        pairs = {name: (one, other) for name, (one, other) in (content.get("pairs") or {}).items()}
        return cls(source, target, bool(content.get("tags")), pairs)


@dataclass(frozen=True)
class Original:
    """The facts of a trained model that the `model.json` of its exports states.

    Attributes:
        languages: Its translation directions.
        fingerprint: Its fingerprint, if it is an artifact.
        run: The run that it comes from, and its place there.
    """

    languages: Languages
    fingerprint: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)


def tag_of(language: str) -> str:
    """Return the tag that makes a model translate into a language: `<2de>` (Johnson et al., 2017)."""
    return f"<2{language}>"


def read_languages(folder: Path) -> Languages:
    """Return the languages of the model in a folder; empty if the folder does not state them."""
    return Languages.from_json(read_description(folder) or _read(folder / LANGUAGES) or {})


def known_languages(folder: Path, axis_value: Mapping[str, Any]) -> Languages:
    """Return the languages of a model; if its folder does not state them, the languages of its training pair."""
    known = read_languages(folder)
    if known.target or not axis_value:
        return known
    return Languages((str(axis_value["source"]),), (str(axis_value["target"]),))


def tag_for(languages: Languages, to: str | None, where: object) -> str | None:
    """Return the tag that sources need to be translated into `to`, or None for a model without tags.

    Raises:
        UserError: The model does not translate into that language, or has several target languages and none is given.
    """
    if not languages.tagged:
        return None
    targets = ", ".join(languages.target)
    if to is None and len(languages.target) > 1:
        raise UserError(
            f"{where} translates into {targets}, but no language was chosen.",
            f"Choose one: --to {languages.target[0]}, or to='{languages.target[0]}' in Python.",
        )
    if to is not None and to not in languages.target:
        raise UserError(f"{where} does not translate into {to}.", f"Choose one of: {targets}.")
    return tag_of(to or languages.target[0])


def describe(
    engine: str, compute_type: str, original: Original, *, longest: Mapping[str, int | None], vocabulary: Path
) -> dict[str, Any]:
    """Return the content of `model.json`.

    Args:
        engine: FAIRSEQ, CTRANSLATE2, or one of PACKAGED.
        compute_type: Number format of the weights.
        original: The facts of the original model.
        longest: Longest `source` and `target` of the training, in tokens; None if unknown.
        vocabulary: The sentencepiece model.
    """
    return {
        "format": FORMAT,
        "engine": engine,
        "compute_type": compute_type,
        **original.languages.to_json(),
        "preprocessing": preprocessing(vocabulary),
        "max_source_pieces": longest["source"],  # longer text is better cut
        "max_target_pieces": longest["target"],
        "fingerprint": original.fingerprint,
        "run": dict(original.run),
        "made_with": {name: version(name) for name in ("ctranslate2", "fairseq", "sentencepiece")},
    }


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's `model.json`; empty if there is none.

    Raises:
        UserError: The file is damaged, or of a newer format than this version of kd reads.
    """
    path = folder / DESCRIPTION
    content = _read(path)
    if not content:
        return {}
    format_ = content.get("format", FORMAT)
    if not _is_count(format_):
        raise UserError(f"{path} is damaged: its entry format is {_shown(format_)}.", COPY_AGAIN)
    if format_ > FORMAT:
        raise UserError(
            f"{path} has format {format_}, and this version of kd reads formats up to {FORMAT}.",
            "Install a newer version of kd.",
        )
    return content


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object with entries of known types; empty if there is no such file."""
    if not path.is_file():
        return {}
    check_file(path)
    content = read_object(path, COPY_AGAIN)
    for name, fits in _ENTRIES.items():
        if content.get(name) is not None and not fits(content[name]):
            raise UserError(f"{path} is damaged: its entry {name} is {_shown(content[name])}.", COPY_AGAIN)
    if content.get("engine") == CTRANSLATE2 and content.get("compute_type") is None:
        raise UserError(f"{path} is damaged: it has no entry compute_type.", COPY_AGAIN)
    if content.get("tags") and not content.get("target_languages"):
        raise UserError(f"{path} is damaged: it has tags and no target_languages.", COPY_AGAIN)
    return content


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_pairs(value: Any) -> bool:
    return isinstance(value, dict) and all(_are_texts(each) and len(each) == 2 for each in value.values())


def _is_direction(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"source", "target", "prefix"}
        and all(value[side] is None or _is_text(value[side]) for side in ("source", "target"))
        and _is_text(value["prefix"])
    )


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "engine": lambda value: value in (FAIRSEQ, CTRANSLATE2, ENDPOINT, *PACKAGED),
    "compute_type": _is_text,
    "source_languages": _are_texts,
    "target_languages": _are_texts,
    "tags": _are_texts,
    "pairs": _are_pairs,
    "max_source_pieces": _is_count,
    "max_target_pieces": _is_count,
    "members": _is_count,
    "direction": _is_direction,
    "endpoint": lambda value: isinstance(value, dict),
    "preprocessing": lambda value: isinstance(value, dict) and _is_count(value.get("pieces", 1)),
}


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
