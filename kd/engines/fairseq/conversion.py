"""Convert fairseq models to CTranslate2 from checkpoints that passed kd's checks.

CTranslate2's own converter for fairseq reads the checkpoint and builds the model from unchecked settings. This module
passes it the model that `model.restore` built, and uses only its specification of the format.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any, NamedTuple

from ctranslate2.converters import fairseq as stock
from ctranslate2.converters.converter import Converter as StockConverter

from kd.engines.fairseq.language_tokens import require_plain
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.model import complete, holds_nan, load_dictionaries, prepare, restore
from kd.engines.nan import nan_scores
from kd.models.folder import ModelFolder

# Rows of the position table. CTranslate2 accepts 1,024 tokens by default, and adds the end of the sentence:
# with these no input fails, however short the sentences of the training were.
POSITIONS = 1032


class Loaded(NamedTuple):
    """A fairseq model with its dictionaries and complete settings."""

    model: Any
    source: Any
    target: Any
    settings: Namespace


def load_checked(folder: ModelFolder) -> Loaded:
    """Load a fairseq model for conversion.

    Raises:
        UserError: The model is damaged, or a weight is NaN.
    """
    source, target = load_dictionaries(folder)
    state = prepare(load(folder.weights), folder, source, target)
    require_plain(state, folder.weights, "an export")
    model = restore(state, folder, source, target)
    if holds_nan(model):
        raise nan_scores([0], "fp32", weights=[0], one=True)
    return Loaded(model, source, target, complete(state["cfg"]["model"]))


class Converter(StockConverter):
    """Convert one fairseq model; `convert(folder, quantization=…)` writes it."""

    def __init__(self, model: ModelFolder) -> None:
        self._model = model

    def _load(self) -> Any:
        import torch

        with torch.no_grad():
            model, source, target, settings = load_checked(self._model)
            spec = stock._get_model_spec(settings)
            stock.set_transformer_encoder(spec.encoder, model.encoder)
            stock.set_transformer_decoder(spec.decoder, model.decoder)
            for side, module in ((spec.encoder, model.encoder), (spec.decoder, model.decoder)):
                _lengthen(side.position_encodings, module.embed_positions)
            spec.register_source_vocabulary(stock._get_vocab(source))
            spec.register_target_vocabulary(stock._get_vocab(target))
            spec.config.decoder_start_token = spec.config.eos_token
            spec.config.add_source_eos = True
            return spec


def _lengthen(spec: Any, positions: Any) -> None:
    """Replace a table of sinusoidal positions by a longer one; a table of trained positions stays unchanged."""
    if hasattr(positions, "get_embedding") and len(spec.encodings) < POSITIONS:
        first = positions.padding_idx + 1
        table = positions.get_embedding(POSITIONS + first, positions.embedding_dim, positions.padding_idx)
        spec.encodings = table.numpy()[first:]
