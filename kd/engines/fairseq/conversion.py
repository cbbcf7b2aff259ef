"""Converts fairseq models to CTranslate2 from checkpoints that passed kd's checks.

CTranslate2's own converter for fairseq reads the checkpoint and builds the model itself, from unchecked settings. Here
it gets the model that `model.restore` built, and only its specification of the format is used.
"""

from __future__ import annotations

from typing import Any

from ctranslate2.converters import fairseq as stock
from ctranslate2.converters.converter import Converter as StockConverter

from kd.engines.fairseq.loading import load
from kd.engines.fairseq.model import complete, holds_nan, load_dictionaries, restore
from kd.engines.nan import nan_scores
from kd.models.folder import ModelFolder


class Converter(StockConverter):
    """Converts one fairseq model; `convert(folder, quantization=…)` writes it."""

    def __init__(self, model: ModelFolder) -> None:
        self._model = model

    def _load(self) -> Any:
        import torch

        with torch.no_grad():
            source, target = load_dictionaries(self._model)
            state = load(self._model.weights)
            model = restore(state, self._model, source, target)
            if holds_nan(model):
                raise nan_scores([0], "fp32", weights=[0], one=True)
            settings = complete(state["cfg"]["model"])
            spec = stock._get_model_spec(settings)
            stock.set_transformer_encoder(spec.encoder, model.encoder)
            stock.set_transformer_decoder(spec.decoder, model.decoder)
            spec.register_source_vocabulary(stock._get_vocab(source))
            spec.register_target_vocabulary(stock._get_vocab(target))
            spec.config.decoder_start_token = spec.config.eos_token
            spec.config.add_source_eos = True
            return spec
