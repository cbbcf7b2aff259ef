"""Language tokens of multilingual fairseq models: which tokens a checkpoint was trained with, and their positions.

The task `translation_multi_simple_epoch` (M2M-100, mBART-style models) puts a token before the source and makes another
token the first of the output; with `--lang-tok-replacing-bos-eos` they replace the end of the source and the start of
the decoder's input. The task `multilingual_translation` always does the latter, and has one model per language pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.models.languages import alike

ONE_MODEL, MODEL_PER_PAIR = "translation_multi_simple_epoch", "multilingual_translation"
_STYLES = {"multilingual": "__{}__", "mbart": "[{}]"}
_PREFIX = "models."  # of the weights' names in a checkpoint with a model for each pair


@dataclass(frozen=True)
class LanguageTokens:
    """The symbols that a model expects besides the text; None where it expects no symbol.

    Attributes:
        source_first: Stands before the source.
        source_end: Replaces `</s>` at the end of the source.
        target_start: Replaces `</s>` as the first input of the decoder.
        target_first: Is forced as the first token of the output, and is not part of the text.
    """

    source_first: str | None = None
    source_end: str | None = None
    target_start: str | None = None
    target_first: str | None = None

    def __bool__(self) -> bool:
        return any(astuple(self))


@dataclass(frozen=True)
class Direction:
    """The languages to translate between, as named by the user.

    Attributes:
        source: None if not named.
        target: None if not named.
        languages: All languages of the training, in order, if the checkpoint does not state them.
        settings: The settings or options that name source and target, for messages.
    """

    source: str | None = None
    target: str | None = None
    languages: tuple[str, ...] = ()
    settings: tuple[str, str] = ("--from", "--to")


def select(state: dict[str, Any], direction: Direction, path: Path) -> dict[str, Any]:
    """Return a checkpoint reduced to one direction: the settings name its languages, the weights are those of its pair.

    Args:
        state: A checkpoint as `loading.load` returns it. One that is not multilingual is returned unchanged.
        direction: The wanted languages; by default those in the checkpoint.
        path: The checkpoint, for messages.

    Raises:
        UserError: A language is missing or unknown to the model, or there is no model for the pair.
    """
    task = state["cfg"]["task"]
    if task["_name"] not in (ONE_MODEL, MODEL_PER_PAIR):
        return state
    if direction.languages and not task.get("langs"):
        task = {**task, "langs": list(direction.languages)}
    by_pair = any(name.startswith(_PREFIX) for name in state["model"])
    source_needed, target_needed = _needed(task)
    source = _language(task, "source", direction, path, source_needed or by_pair)
    target = _language(task, "target", direction, path, target_needed or by_pair)
    weights = _weights_of(state["model"], f"{source}-{target}", path) if by_pair else state["model"]
    settings = {**state["cfg"], "task": {**task, "source_lang": source, "target_lang": target}}
    return {**state, "cfg": settings, "model": weights}


def tokens_of(task: Mapping[str, Any]) -> LanguageTokens:
    """Return the tokens for the direction that `select` stored in the settings of a task."""
    name = task["_name"]
    if name not in (ONE_MODEL, MODEL_PER_PAIR):
        return LanguageTokens()
    before, after = (_token(task, spec) for spec in _specs(task))
    if name == MODEL_PER_PAIR or task.get("lang_tok_replacing_bos_eos"):
        return LanguageTokens(source_end=before, target_start=after)
    return LanguageTokens(source_first=before, target_first=after)


def added_symbols(task: Mapping[str, Any]) -> list[str]:
    """Return the symbols that fairseq adds to the dictionaries of a task when it loads them, in its order."""
    name, languages = task["_name"], task.get("langs") or []
    if name == MODEL_PER_PAIR:
        return [_styled(task, each) for each in sorted(languages)] if any(_specs(task)) else []
    if name != ONE_MODEL:
        return []
    symbols = [_styled(task, each, spec) for spec in task.get("langtoks_specs") or ["main"] for each in languages]
    denoising = "mono_dae" in (task.get("extra_data") or {})
    return [*symbols, "<mask>"] if denoising or task.get("lang_tok_style") == "mbart" else symbols


def require_symbols(tokens: LanguageTokens, source: Any, target: Any, path: Path) -> None:
    """Raise UserError unless fairseq's dictionaries of source and target have the tokens."""
    for dictionary, symbols in (
        (source, (tokens.source_first, tokens.source_end)),
        (target, (tokens.target_start, tokens.target_first)),
    ):
        for symbol in symbols:
            if symbol is not None and symbol not in dictionary.indices:
                raise UserError(
                    f"{path} was trained with the language token {symbol}, but its dictionary has no such symbol.",
                    "Give the training's dictionary, or set given_models.languages to the training's languages in "
                    "order.",
                )


def require_plain(state: Mapping[str, Any], path: Path, use: str) -> None:
    """Raise UserError if a model needs language tokens; `use` names the operation that does not add them."""
    task = state["cfg"]["task"]
    if task["_name"] in (ONE_MODEL, MODEL_PER_PAIR) and any(_specs(task)):
        raise UserError(
            f"{path} needs language tokens in the text, but {use} does not add them.",
            "Use it as a decoding teacher: chain=given_teachers with decode.engine=ensemble.",
        )


def _specs(task: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the languages that source and target tokens name: `src`, `tgt`, a variant such as `src.mined`, None."""
    if task["_name"] == ONE_MODEL and "main" in (task.get("langtoks") or {}):
        source, target = task["langtoks"]["main"]
        return source, target
    return task.get("encoder_langtok") or None, "tgt" if task.get("decoder_langtok") else None


def _needed(task: Mapping[str, Any]) -> tuple[bool, bool]:
    specs = [spec for spec in _specs(task) if spec]
    return any(spec.startswith("src") for spec in specs), any(not spec.startswith("src") for spec in specs)


def _token(task: Mapping[str, Any], spec: str | None) -> str | None:
    if not spec:
        return None
    side = "source_lang" if spec.startswith("src") else "target_lang"
    return _styled(task, str(task[side]), spec)


def _styled(task: Mapping[str, Any], language: str, spec: str = "main") -> str:
    variant = next((f"_{kind}" for kind in ("dae", "mined") if spec.endswith(kind)), "")
    return _STYLES[task.get("lang_tok_style") or "multilingual"].format(language + variant)


def _language(task: Mapping[str, Any], side: str, direction: Direction, path: Path, needed: bool) -> str | None:
    """Return the model's own name of a language, or None if neither the user nor the checkpoint names it."""
    known: Sequence[str] = task.get("langs") or ()
    wanted = getattr(direction, side) or task.get(f"{side}_lang")
    if wanted is None or (not needed and wanted not in known):
        if needed:
            raise UserError(
                f"{path} translates between several languages, but its {side} language is not set.",
                f"Set {direction.settings[side == 'target']} to one of {', '.join(known) or 'those of its training'}.",
            )
        return None
    found = alike(str(wanted), known) if known else str(wanted)
    if found is not None:
        return found
    raise UserError(
        f"{path} has no language {wanted}; it has {', '.join(known)}.",
        f"Set {direction.settings[side == 'target']} to one of them.",
    )


def _weights_of(weights: Mapping[str, Any], pair: str, path: Path) -> dict[str, Any]:
    start = f"{_PREFIX}{pair}."
    found = {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}
    if not found:
        pairs = sorted({name.split(".")[1] for name in weights if name.startswith(_PREFIX)})
        raise UserError(f"{path} has no model for {pair}.", f"It has models for {', '.join(pairs)}.")
    return found
