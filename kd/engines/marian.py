"""Export fairseq models to Marian, for pymarian and `marian-decoder` from version 1.12 on.

An exported folder holds `model.npz`, `vocabulary.spm` (sentencepiece), `decoder.yml` (Marian's settings) and
`model.json`.

The model has Marian's type `transformer-new`, whose arithmetic is fairseq's. The older type `transformer`, the only one
that Bergamot and Firefox read, cannot hold these models: it counts positions from 0 where fairseq counts from 2, gives
every token of a translation the first row of a table of positions (`addPositionalEmbeddings` in Marian's
src/models/transformer.h ignores `start` there), and with layer normalisation before each block it does not normalise
the keys and values of attention.

Two things differ between the toolkits and are moved into weights:

- Marian does not multiply embeddings by sqrt(width) if positions come from a table. The embedding is stored multiplied,
  and the last normalisation of the decoder is divided by the same factor, because the output shares the embedding.
- A translation starts with `</s>` in fairseq and with a zero vector in Marian. The embedding of `</s>` is added to the
  first row of the decoder's positions.

`decoder.yml` translates one sentence at a time, because pymarian 1.12.42 computes the mask of padding wrongly on CPUs:
the shorter sources of a batch get other translations than alone if the longest has a multiple of 4 tokens.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kd.base.errors import UserError
from kd.engines.loading import Decoding
from kd.models.description import MARIAN, Original, describe
from kd.models.folder import ModelFolder, write_description
from kd.models.matching import FILLER, load_processor
from kd.models.normaliser import write_normalising

MODEL, SPM, SETTINGS = "model.npz", "vocabulary.spm", "decoder.yml"  # Marian knows sentencepiece by the ending .spm
PACKAGE = "pymarian"
VERSION = "v1.12.42"  # of Marian's format
LONGEST = 1024  # tokens of a source, if a model does not state the length of its training
FACTOR = 3  # a translation gets at most so many times the tokens of the longest source in its batch: Marian's default
IMPOSSIBLE = -1e4  # bias of a symbol that fairseq never writes
_SPECIAL = 4  # <s>, <pad>, </s> and <unk>, the first symbols of fairseq's dictionaries


def export(model_folder: Path, out: Path, original: Original, *, beam: int) -> None:
    """Write a folder that Marian loads, in float32; the arguments are those of `Package.export`.

    Raises:
        UserError: The model is damaged, or Marian cannot express it.
    """
    import numpy as np

    from kd.engines.fairseq.conversion import load_checked
    from kd.engines.fairseq.model import longest_pieces

    model = ModelFolder.open(model_folder)
    if original.languages.tagged:
        raise _unsupported("its sources begin with a language tag, which Marian cannot add to text")
    if model.segmentation:
        raise _unsupported("it segments text with BPE codes, not with a sentencepiece model")
    model.check()
    loaded = load_checked(model)
    _check(loaded.settings, loaded.source.symbols == loaded.target.symbols)
    longest = longest_pieces(model.weights)
    source = (longest["source"] or LONGEST) + 1  # with the end of the sentence
    rows = _rows(load_processor(model.vocabulary), loaded.target)
    weights = _weights(loaded.model, loaded.settings, rows, positions=FACTOR * source + 1)
    settings = _model_settings(loaded.settings, len(rows), positions=FACTOR * source + 1)
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / MODEL, **weights, **{"special:model.yml": _as_array(settings)})
    write_normalising(model.vocabulary, out / SPM)
    (out / SETTINGS).write_text(yaml.safe_dump(_decoder_settings(beam, source), sort_keys=False), "utf-8")
    content = describe(MARIAN, "float32", original, longest=longest, vocabulary=out / SPM)
    content["preprocessing"]["model"] = SPM
    write_description(out, content)


def _unsupported(why: str) -> UserError:
    return UserError(f"Marian cannot express this model: {why}.", "Set export.formats.marian=false.")


# --- what Marian can express ------------------------------------------------------------------------------------------


def _check(settings: Any, one_vocabulary: bool) -> None:
    """Refuse a model that Marian has no settings for."""
    encoder, decoder = _side(settings, "encoder"), _side(settings, "decoder")
    if not one_vocabulary:
        raise _unsupported("source and target have different vocabularies")
    if not settings.share_all_embeddings:
        raise _unsupported("source, target and output do not share one embedding")
    if encoder["normalize_before"] != decoder["normalize_before"]:
        raise _unsupported("encoder and decoder normalise differently")
    if encoder["attention_heads"] != decoder["attention_heads"]:
        raise _unsupported("encoder and decoder have different numbers of attention heads")
    if settings.activation_fn != "relu":
        raise _unsupported(f"the activation {settings.activation_fn} is not computed as in fairseq")
    if encoder["learned_pos"] or decoder["learned_pos"]:
        raise _unsupported("its positions are trained")


def _side(settings: Any, side: str) -> dict[str, Any]:
    names = ("layers", "ffn_embed_dim", "attention_heads", "normalize_before", "learned_pos")
    return {name: getattr(settings, f"{side}_{name}") for name in names}


def _rows(processor: Any, dictionary: Any) -> list[int]:
    """Return the row of the embedding for each piece of the sentencepiece model, in its order."""
    numbers = {symbol: number for number, symbol in enumerate(dictionary.symbols)}
    pieces = [processor.id_to_piece(number) for number in range(len(processor))]
    missing = [piece for piece in pieces[_SPECIAL:] if piece not in numbers]
    left = [symbol for symbol in numbers if symbol not in set(pieces) and not symbol.startswith(FILLER)]
    if missing or left or processor.eos_id() < 0 or processor.unk_id() < 0:
        raise _unsupported("its dictionary and its sentencepiece model hold different symbols")
    return [numbers[piece] for piece in pieces]


# --- the file of weights ----------------------------------------------------------------------------------------------


def _weights(model: Any, settings: Any, rows: Sequence[int], positions: int) -> dict[str, Any]:
    """Return the weights by Marian's names, in float32."""
    import numpy as np

    found = {name: value.detach().float().numpy() for name, value in model.state_dict().items() if not _left_out(name)}
    embedding = found.pop("encoder.embed_tokens.weight")
    factor = 1.0 if settings.no_scale_embedding else math.sqrt(embedding.shape[1])
    top = f"decoder.layers.{settings.decoder_layers - 1}.final_layer_norm"
    last = "decoder.layer_norm" if settings.decoder_normalize_before else top
    weights = {}
    for ours, theirs, transposed in _names(settings):
        if ours not in found:
            raise _unsupported(f"it has no weight {ours}")
        value = found.pop(ours)
        weights[theirs] = np.ascontiguousarray(value.T if transposed else value)
        if ours.startswith(f"{last}."):
            weights[theirs] = (weights[theirs] / factor).astype(np.float32)
    if found:
        raise _unsupported(f"it has a weight {min(found)}")
    scaled = (embedding * factor).astype(np.float32)
    weights["Wemb"] = scaled[list(rows)]
    bias = np.zeros((1, len(rows)), np.float32)
    bias[0, [number for number, row in enumerate(rows) if row == model.decoder.padding_idx]] = IMPOSSIBLE
    weights["decoder_ff_logit_out_b"] = bias
    for side, start in (("Encoder", 0.0), ("Decoder", scaled[model.decoder.dictionary.eos()])):
        table = _positions(getattr(model, side.lower()).embed_positions, positions)
        table[0] += start
        weights[f"TransformerBatch{side}->{side.lower()}->positionEmbedding->embeddings"] = table
    return weights


def _left_out(name: str) -> bool:
    """Return whether a fairseq weight is left out: it is computed, or another name of the embedding."""
    return (
        "embed_positions" in name
        or name.rpartition(".")[2] == "version"
        or name in ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
    )


def _names(settings: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield fairseq's name of each weight, Marian's, and whether Marian stores its transpose."""
    norm = f"{'pre' if settings.encoder_normalize_before else 'post'}processor->norm"
    for side, layers, kind, blocks in (
        ("encoder", settings.encoder_layers, "TransformerEncoderLayer",
         {"self_attn": "selfAttentionBlock->selfAttention"}),
        ("decoder", settings.decoder_layers, "TransformerDecoderLayerWithCrossAttention",
         {"self_attn": "autoRegressiveBlock->selfAttention", "encoder_attn": "crossAttentionBlock->crossAttention"}),
    ):  # fmt: skip
        root = f"TransformerBatch{side.capitalize()}->{side}"
        for layer in range(layers):
            ours, theirs = f"{side}.layers.{layer}", f"{root}->layers->at({layer})->as<marian::nn::{kind}>()"
            for block, path in blocks.items():
                for name, short in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "o")):
                    yield from _linear(f"{ours}.{block}.{name}", f"{theirs}->{path}->{short}Proj")
                yield from _norm(f"{ours}.{block}_layer_norm", f"{theirs}->{path.partition('->')[0]}->{norm}")
            filters = f"{theirs}->filterBlock"
            yield from _linear(f"{ours}.fc1", f"{filters}->layers->at(0)->as<marian::nn::LinearReluDropout>()")
            yield from _linear(f"{ours}.fc2", f"{filters}->layers->at(1)->as<marian::nn::Linear>()")
            yield from _norm(f"{ours}.final_layer_norm", f"{filters}->{norm}")
        if settings.encoder_normalize_before:
            yield from _norm(f"{side}.layer_norm", f"{root}->postprocessor->norm")


def _linear(ours: str, theirs: str) -> Iterator[tuple[str, str, bool]]:
    yield f"{ours}.weight", f"{theirs}->weight", True
    yield f"{ours}.bias", f"{theirs}->bias", False


def _norm(ours: str, theirs: str) -> Iterator[tuple[str, str, bool]]:
    yield f"{ours}.weight", f"{theirs}->weight", False
    yield f"{ours}.bias", f"{theirs}->bias", False


def _positions(table: Any, count: int) -> Any:
    """Return fairseq's sinusoidal positions, from the first position of a sentence on."""
    first = table.padding_idx + 1
    rows = table.get_embedding(count + first, table.embedding_dim, table.padding_idx)[first:]
    return rows.numpy().copy()


# --- settings ---------------------------------------------------------------------------------------------------------


def _model_settings(settings: Any, symbols: int, positions: int) -> dict[str, Any]:
    """Return the settings that are part of the file of weights."""
    encoder, decoder = _side(settings, "encoder"), _side(settings, "decoder")
    before = bool(encoder["normalize_before"])
    return {
        "type": "transformer-new",
        "version": VERSION,
        "dim-vocabs": [symbols, symbols],
        "dim-emb": settings.encoder_embed_dim,
        "enc-depth": encoder["layers"],
        "dec-depth": decoder["layers"],
        "tied-embeddings": False,
        "tied-embeddings-src": False,
        "tied-embeddings-all": True,
        "output-omit-bias": False,
        "max-length": positions,  # rows of the tables of positions; text is cut by decoder.yml's
        "transformer-heads": encoder["attention_heads"],
        "transformer-dim-ffn": encoder["ffn_embed_dim"],
        "transformer-decoder-dim-ffn": decoder["ffn_embed_dim"],
        "transformer-ffn-depth": 2,
        "transformer-decoder-ffn-depth": 0,  # as the encoder's
        "transformer-ffn-activation": "relu",
        "transformer-preprocess": "n" if before else "",
        "transformer-postprocess": "da" if before else "dan",
        "transformer-postprocess-emb": "d",
        "transformer-postprocess-top": "n" if before else "",
        "transformer-decoder-autoreg": "self-attention",
        "transformer-train-position-embeddings": True,
        "transformer-no-projection": False,
        "transformer-no-bias": False,
        "transformer-no-affine": False,
        "transformer-tied-layers": [],
    }


def _as_array(settings: Mapping[str, Any]) -> Any:
    """Return settings as Marian stores them among weights: YAML in int8, with a zero at the end."""
    import numpy as np

    return np.frombuffer(yaml.safe_dump(dict(settings), sort_keys=True).encode() + b"\0", np.int8)


def _decoder_settings(beam: int, longest: int) -> dict[str, Any]:
    """Return the settings of Marian's decoder."""
    return {
        "relative-paths": True,
        "models": [MODEL],
        "vocabs": [SPM, SPM],
        "cpu-threads": 1,
        "beam-size": beam,
        "normalize": 1.0,
        "max-length": longest,
        "max-length-crop": True,
        "max-length-factor": FACTOR,
        "mini-batch": 1,  # no padding: see above
        "maxi-batch": 1,
        "maxi-batch-sort": "none",
        "workspace": 512,
    }


# --- comparison -------------------------------------------------------------------------------------------------------


def translate(folder: Path, sources: Sequence[str], decoding: Decoding, *, threads: int) -> list[str]:
    """Translate with pymarian, in a process of its own, because Marian ends the process when an error occurs.

    The arguments are those of `Package.translate`. The longest translation is not used: Marian limits a translation by
    the length of its source.

    Raises:
        UserError: pymarian failed.
    """
    wanted = [number for number, source in enumerate(sources) if source.strip()]
    options = ["--beam-size", str(decoding.beam), "--cpu-threads", str(threads), "--quiet", "--quiet-translation"]
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "decode", "--config", str(folder / SETTINGS), *options],
        input="".join(f"{sources[number]}\n" for number in wanted),
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
    )
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or len(lines) != len(wanted):
        reason = " ".join(done.stderr.split())[-300:] or f"{len(lines)} of {len(wanted)} lines were translated"
        raise UserError(f"pymarian could not translate with {folder / MODEL}: {reason}", "Try pymarian 1.12.42.")
    found = [""] * len(sources)
    for number, line in zip(wanted, lines, strict=True):
        found[number] = line
    return found
