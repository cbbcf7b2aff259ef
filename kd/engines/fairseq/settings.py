"""Check the settings inside a fairseq checkpoint against an allow-list, before fairseq builds a model from them.

fairseq passes some settings to `eval()` and opens files that others name, so a checkpoint with unchecked settings can
run code. Here every setting that reaches fairseq has a known name, type and range; all others are dropped.
docs/security.md lists the dangerous ones.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from kd.engines.fairseq.language_tokens import MODEL_PER_PAIR, ONE_MODEL

ARCHITECTURES = (
    "transformer",
    "transformer_iwslt_de_en",
    "transformer_tiny",
    "transformer_vaswani_wmt_en_de_big",
    "transformer_vaswani_wmt_en_fr_big",
    "transformer_wmt_en_de",
    "transformer_wmt_en_de_big",
    "transformer_wmt_en_de_big_t2t",
)
# The same model at inference: Transformers with an alignment loss, and those of which a checkpoint holds one per pair.
EQUIVALENT = {
    "transformer_align": "transformer",
    "transformer_wmt_en_de_big_align": "transformer_wmt_en_de_big",
    "multilingual_transformer": "transformer",
    "multilingual_transformer_iwslt_de_en": "transformer_iwslt_de_en",
}
TASKS = ("translation", ONE_MODEL, MODEL_PER_PAIR)
ACTIVATIONS = ("relu", "gelu", "gelu_fast", "gelu_accurate", "tanh", "linear")

_LANGUAGE = re.compile(r"[A-Za-z0-9_-]{1,32}")
_TOKEN_SPEC = re.compile(r"(src|tgt)(\.\w{1,32})?")
_NUMBERS = re.compile(r"[\[(]?\s*\d{1,9}(\s*,\s*\d{1,9})*\s*,?\s*[\])]?")

Check = Callable[[Any], Any]  # returns the value that fairseq gets, or raises ValueError with the values allowed


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and low <= value <= high and value == int(value)):  # NaN is in no range
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return check


def _real(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return check


def _flag(value: Any) -> bool:
    if value not in (True, False):  # old checkpoints hold 0 and 1
        raise ValueError("true or false")
    return bool(value)


def _one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value

    return check


def _absent(value: Any) -> None:
    if value not in (None, "", 0, False):
        raise ValueError("unset")


def _numbers(value: Any) -> list[int] | None:
    """Accept a list of whole numbers, or the text of such a list. fairseq would evaluate the text as Python."""
    if value in (None, ""):
        return None
    if isinstance(value, str) and _NUMBERS.fullmatch(value):
        return [int(number) for number in re.findall(r"\d+", value)]
    if isinstance(value, list | tuple) and all(type(each) is int and 0 <= each < 10**9 for each in value):
        return list(value)
    raise ValueError("a list of whole numbers")


def _layers(value: Any) -> str | None:
    """Accept the layers that LayerDrop keeps, in fairseq's form `0,2,4`."""
    numbers = _numbers(value)
    return None if numbers is None else ",".join(map(str, numbers))


_SIDE: dict[str, Check] = {
    "embed_dim": _whole(1, 65_536),
    "ffn_embed_dim": _whole(1, 1_048_576),
    "layers": _whole(1, 1_000),
    "attention_heads": _whole(1, 1_024),
    "normalize_before": _flag,
    "learned_pos": _flag,
    "layerdrop": _real(0, 1),
    "layers_to_keep": _layers,
    "xformers_att_config": _absent,  # passed to eval()
}
MODEL: dict[str, Check] = {
    **{f"{side}_{name}": check for side in ("encoder", "decoder") for name, check in _SIDE.items()},
    "decoder_input_dim": _whole(1, 65_536),
    "decoder_output_dim": _whole(1, 65_536),
    "activation_fn": _one_of(*ACTIVATIONS),
    "dropout": _real(0, 1),
    "attention_dropout": _real(0, 1),
    "activation_dropout": _real(0, 1),
    "relu_dropout": _real(0, 1),
    "adaptive_input": _flag,
    "adaptive_softmax_cutoff": _numbers,  # passed to eval() if it is text
    "adaptive_softmax_dropout": _real(0, 1),
    "adaptive_softmax_factor": _real(0, 1_000),
    "base_layers": _absent,  # a layer type whose experts are on several devices
    "cross_self_attention": _flag,
    "layernorm_embedding": _flag,
    "max_source_positions": _whole(1, 1_000_000),
    "max_target_positions": _whole(1, 1_000_000),
    "no_cross_attention": _flag,
    "no_decoder_final_norm": _flag,
    "no_scale_embedding": _flag,
    "no_token_positional_embeddings": _flag,
    "quant_noise_pq": _real(0, 1),
    "quant_noise_pq_block_size": _whole(1, 65_536),
    "quant_noise_scalar": _real(0, 1),
    "scale_attn": _flag,
    "scale_fc": _flag,
    "scale_heads": _flag,
    "scale_resids": _flag,
    "share_all_embeddings": _flag,
    "share_decoder_input_output_embed": _flag,
    "tie_adaptive_proj": _flag,
    "tie_adaptive_weights": _flag,
}
_NULLABLE = {"decoder_input_dim", "decoder_output_dim", "max_source_positions", "max_target_positions"}
# Settings that name a file to read or a package to import; the weights of the checkpoint take their place.
DROPPED = ("encoder_embed_path", "decoder_embed_path", "checkpoint_activations", "offload_activations")

TASK: dict[str, Check] = {
    "left_pad_source": _flag,
    "left_pad_target": _flag,
    "max_source_positions": _whole(1, 1_000_000),
    "max_target_positions": _whole(1, 1_000_000),
}


def _words(value: Any) -> list[str]:
    """Accept names of languages or pairs, as a list or separated by commas."""
    words = value.split(",") if isinstance(value, str) else value
    if isinstance(words, list | tuple) and all(isinstance(word, str) and _LANGUAGE.fullmatch(word) for word in words):
        return list(words)
    raise ValueError("names of languages")


def _token_specs(value: Any) -> dict[str, list[str | None]]:
    """Accept the main data's token settings: the language of each side, such as `src` or `tgt.mined`."""
    if not isinstance(value, dict) or "main" not in value:
        return {}
    specs = value["main"]
    is_pair = isinstance(specs, list | tuple) and len(specs) == 2
    if not is_pair or not all(not spec or (isinstance(spec, str) and _TOKEN_SPEC.fullmatch(spec)) for spec in specs):
        raise ValueError("two of src, tgt and None")
    return {"main": [spec or None for spec in specs]}


# Of multilingual tasks: which language tokens there are, and where they stand (`language_tokens.py`).
MULTILINGUAL: dict[str, Check] = {
    "encoder_langtok": _one_of("src", "tgt"),
    "decoder_langtok": _flag,
    "lang_tok_replacing_bos_eos": _flag,
    "lang_tok_style": _one_of("multilingual", "mbart"),
    "langtoks": _token_specs,
    "langtoks_specs": _words,
    "langs": _words,
    "lang_pairs": _words,
    "lang_dict": lambda value: "unknown" if value else None,  # a file: the languages are not in the checkpoint
    "extra_data": lambda value: {"mono_dae": ""} if isinstance(value, dict) and "mono_dae" in value else {},
}


class Refused(ValueError):
    """A setting is not allowed. The message names the setting and the values allowed."""


def allowed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a checkpoint, in fairseq's form `cfg`, reduced to allowed names and checked values.

    Args:
        state: A checkpoint with `cfg` (fairseq 0.10 and later) or `args` (before).

    Raises:
        Refused: A setting has a type or value that is not allowed, or the model is not a translation Transformer.
    """
    model, task = _parts(state)
    architecture = model.get("arch") or model.get("_name")
    architecture = EQUIVALENT.get(architecture, architecture) if isinstance(architecture, str) else architecture
    if architecture not in ARCHITECTURES:
        raise Refused(f"its architecture is {_shown(architecture)}, and kd reads {', '.join(ARCHITECTURES)}")
    checked = _task(task, model)
    positions: dict[str, Any] = {
        name: checked[name] for name in ("max_source_positions", "max_target_positions") if name in checked
    }
    values: dict[str, Any] = {"arch": architecture} | positions | _checked(MODEL, model)
    settings = Namespace(**values)
    return {"_name": None, "task": checked, "model": settings}


def _parts(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the model and of the task as mappings."""
    if state.get("cfg"):
        found = _mapping(state["cfg"])
        return _mapping(found.get("model")), _mapping(found.get("task") or {})
    arguments = _mapping(state.get("args"))
    return arguments, arguments


def _mapping(settings: Any) -> dict[str, Any]:
    if isinstance(settings, Namespace):
        settings = vars(settings)
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise Refused("its settings are not in fairseq's form")
    return settings


def _task(task: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the task."""
    name = task.get("_name") or task.get("task") or model.get("task") or "translation"
    if name not in TASKS:
        raise Refused(f"its task is {_shown(name)}, and kd reads models for {', '.join(TASKS)}")
    languages = {key: task.get(key) for key in ("source_lang", "target_lang")}
    known = {key: value for key, value in languages.items() if isinstance(value, str) and _LANGUAGE.fullmatch(value)}
    return {
        "_name": name,
        "data": "",
        **{key: known.get(key) for key in languages},
        **_checked(TASK, task),
        **(_multilingual(task, model) if name != "translation" else {}),
        "eval_bleu": False,
        "eval_bleu_detok_args": "{}",
    }


def _multilingual(task: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide on language tokens, and the languages if the checkpoint states them."""
    given = {name: task.get(name) or model.get(name) for name in MULTILINGUAL}
    found = _checked(MULTILINGUAL, {name: value for name, value in given.items() if value})
    if not found.get("langs") and not found.get("lang_dict"):
        pairs = [pair.split("-") for pair in found.get("lang_pairs", [])]
        found["langs"] = sorted({language for pair in pairs for language in pair})
    return found


def _checked(checks: Mapping[str, Check], settings: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, check in checks.items():
        value = settings.get(name)
        if name not in settings or (value is None and name in _NULLABLE):
            continue
        try:
            found[name] = check(value)
        except (ValueError, OverflowError) as error:
            raise Refused(f"its setting {name} is {_shown(value)}, and it must be {error}") from None
    return found


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
