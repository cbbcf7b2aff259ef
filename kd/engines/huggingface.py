"""Export fairseq models to Hugging Face transformers, for `AutoModelForSeq2SeqLM` and `AutoTokenizer`.

A model with layer normalisation before each block gets M2M-100's architecture, one with normalisation after each block
Marian's; both compute the same as fairseq's Transformer. The tokenizer is a `tokenizer.json` made from the
sentencepiece model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.engines.loading import Decoding
from kd.models.description import TRANSFORMERS, Languages, Original, describe, tag_of
from kd.models.files import VOCABULARY
from kd.models.folder import ModelFolder, write_description
from kd.models.matching import load_processor
from kd.models.normaliser import write_normalising
from kd.models.sentencepiece_model import normalisation_table, user_defined

BOS, PAD, EOS, UNKNOWN = range(4)  # fairseq's ids of <s>, <pad>, </s> and <unk>, and those of kd's vocabularies
_SPACES = 1000  # at the start of a text: sentencepiece removes each
_ALWAYS = 100.0  # score of a character of a placeholder: higher than that of any other segmentation


def export(model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
    """Write a folder that transformers loads; the arguments are those of `Package.export`.

    Raises:
        UserError: The model is damaged, transformers has no architecture for it, or transformers is not installed.
    """
    from kd.engines.fairseq.conversion import load_checked
    from kd.engines.fairseq.model import longest_pieces

    model = ModelFolder.open(model_folder)
    model.check()
    loaded = load_checked(model)
    longest = longest_pieces(model.weights)
    if loaded.source.symbols != loaded.target.symbols:
        raise _unsupported("source and target have different vocabularies")
    converted = _converted(loaded.model, loaded.settings, len(loaded.target), longest)
    out.mkdir(parents=True, exist_ok=True)
    converted.generation_config = _generation(beam, longest["target"])
    converted.save_pretrained(out)
    _keep_positions(converted, out)
    write_normalising(model.vocabulary, out / VOCABULARY)
    _write_tokenizer(out, loaded.target, original.languages, longest["source"])
    write_description(out, describe(TRANSFORMERS, "float32", original, longest=longest, vocabulary=out / VOCABULARY))


def _unsupported(why: str) -> UserError:
    return UserError(
        f"transformers has no architecture for this model: {why}.", "Set export.formats.huggingface=false."
    )


# --- the model --------------------------------------------------------------------------------------------------------


def _converted(model: Any, settings: Any, symbols: int, longest: Mapping[str, int | None]) -> Any:
    """Return the model as a transformers model."""
    import torch
    import transformers

    before = bool(settings.encoder_normalize_before)
    if before != bool(settings.decoder_normalize_before):
        raise _unsupported("encoder and decoder normalise differently")
    if not settings.share_all_embeddings:
        raise _unsupported("source, target and output do not share one embedding")
    sides = {
        f"{side}_{theirs}": getattr(settings, f"{side}_{ours}")
        for side in ("encoder", "decoder")
        for theirs, ours in (("layers", "layers"), ("ffn_dim", "ffn_embed_dim"), ("attention_heads", "attention_heads"))
    }
    positions = max(1024, *(length + 2 for length in longest.values() if length))
    common = {
        **sides,
        "vocab_size": symbols,
        "d_model": settings.encoder_embed_dim,
        "activation_function": settings.activation_fn,
        "max_position_embeddings": positions,
        "scale_embedding": not settings.no_scale_embedding,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "bos_token_id": BOS,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "decoder_start_token_id": EOS,
    }
    if before:
        built: Any = transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**common))
    else:
        built = transformers.MarianMTModel(transformers.MarianConfig(**common, decoder_vocab_size=symbols))
    weights = {f"model.{name}": value for name, value in model.state_dict().items() if not _left_out(name)}
    weights["model.shared.weight"] = weights["lm_head.weight"] = weights["model.encoder.embed_tokens.weight"]
    if not before:
        weights["final_logits_bias"] = torch.zeros(1, symbols)
        for side, module in (("encoder", model.encoder), ("decoder", model.decoder)):
            weights[f"model.{side}.embed_positions.weight"] = _positions(module.embed_positions, positions)
    try:
        built.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise _unsupported(" ".join(str(error).split())[:300]) from None
    return built.eval()


def _left_out(name: str) -> bool:
    """Return whether a fairseq weight is left out: it is computed, or another name of the embedding."""
    return (
        "embed_positions" in name or name.rpartition(".")[2] == "version" or name.endswith("output_projection.weight")
    )


def _positions(table: Any, count: int) -> Any:
    """Return fairseq's sinusoidal positions, from the first position of a sentence on."""
    if not hasattr(table, "get_embedding"):
        raise _unsupported("its positions are trained")
    first = table.padding_idx + 1
    return table.get_embedding(count + first, table.embedding_dim, table.padding_idx)[first:]


def _keep_positions(model: Any, out: Path) -> None:
    """Add fairseq's positions to a Marian model's file; transformers leaves them out, expecting Marian's own."""
    if model.config.model_type != "marian":
        return
    from safetensors.torch import load_file, save_file

    path = out / "model.safetensors"
    table = model.model.encoder.embed_positions.weight.detach().clone()
    kept = {f"model.{side}.embed_positions.weight": table.clone() for side in ("encoder", "decoder")}
    save_file({**load_file(path), **kept}, path, metadata={"format": "pt"})


def _generation(beam: int, longest: int | None) -> Any:
    """Return the settings with which `generate` searches as fairseq and CTranslate2 do.

    Both rank finished hypotheses by the mean log probability of their tokens, end included, and stop at `beam` of them.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        num_beams=beam,
        max_length=(longest or 256) + 2,  # the first token and the end of the sentence count
        min_new_tokens=1,  # without the end, as fairseq's min_len: else an empty hypothesis takes a place of the beam
        early_stopping=True,
        length_penalty=1.0,
        suppress_tokens=[UNKNOWN],
        forced_eos_token_id=EOS,  # of a translation of the longest length
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
    )


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def _write_tokenizer(out: Path, dictionary: Any, languages: Languages, longest: int | None) -> None:
    """Write `tokenizer.json`, which segments as sentencepiece does, and its settings."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

    path = out / VOCABULARY
    content = path.read_bytes()
    pieces = _scored(path, content, dictionary)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN, byte_fallback="<0x00>" in dict(pieces)))
    table = normalisation_table(content)
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Precompiled(table)] if table else []),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Prepend("▁"),
            normalizers.Replace(" ", "▁"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", _SPACES, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", EOS)]
    )
    tags = [tag_of(language) for language in languages.target] if languages.tagged else []
    special = ["<s>", "<pad>", "</s>", "<unk>", *tags]
    tokenizer.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special])
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "additional_special_tokens": tags,
        "model_max_length": (longest or 1023) + 1,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    write_json(out / "tokenizer_config.json", settings)


def _scored(path: Path, content: bytes, dictionary: Any) -> list[tuple[str, float]]:
    """Return the pieces in the order of fairseq's dictionary, with their scores."""
    processor = load_processor(path)
    scores = {processor.id_to_piece(number): processor.get_score(number) for number in range(len(processor))}
    if _kind(path) != "unigram":
        raise _unsupported("its vocabulary is not a unigram model")
    placeholders = user_defined(content)
    # sentencepiece never cuts a placeholder and never reads a control symbol or a byte piece from text.
    lowest = min(scores.values()) - 20.0
    found = []
    for symbol in dictionary.symbols:
        if symbol in placeholders:
            found.append((symbol, _ALWAYS * len(symbol)))
        else:
            found.append((symbol, scores.get(symbol, lowest)))
    return found


def _kind(path: Path) -> str:
    from kd.models.sentencepiece_model import preprocessing

    return str(preprocessing(path)["kind"])


# --- comparison -------------------------------------------------------------------------------------------------------


def translate(folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
    """Translate with transformers, as a user would; the arguments are those of `Package.translate`."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return generate(model, tokenizer, sources, decoding)


def generate(model: Any, tokenizer: Any, sources: Sequence[str], decoding: Decoding) -> list[str]:
    """Translate with a loaded model that has the methods of transformers, in batches of sentences of similar length."""
    import torch

    tag = tag_of(decoding.to) if decoding.to else ""
    if tag not in tokenizer.additional_special_tokens:
        tag = ""
    order = sorted(range(len(sources)), key=lambda number: len(sources[number]))
    found = [""] * len(sources)
    for start in range(0, len(order), 16):
        numbers = [number for number in order[start : start + 16] if sources[number].strip()]
        if not numbers:
            continue
        batch = tokenizer([tag + sources[number] for number in numbers], padding=True, truncation=True,
                          return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            output = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=decoding.beam,
                max_length=decoding.max_pieces + 2,
            )  # fmt: skip
        for number, text in zip(numbers, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
            found[number] = text
    return found
