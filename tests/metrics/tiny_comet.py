"""A COMET checkpoint made on the spot: the real class and file format, a few thousand random weights, no download.

Its scores mean nothing; that they are unbabel-comet's own, to the last bit, is what tests assert with it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml

SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}


def make_checkpoint(folder: Path, text: list[str], kind: str = "regression_metric", seed: int = 0) -> Path:
    """Write `hparams.yaml`, `checkpoints/model.ckpt` and the encoder's tokeniser, as a model of the hub has them."""
    encoder = folder / "encoder"
    vocabulary = _tokenizer(encoder, text)
    _encoder_config(encoder, vocabulary)

    import pytorch_lightning
    import torch
    from comet.models import str2model

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(seed)
    settings: dict[str, Any] = {} if kind == "unified_metric" else {"layer_transformation": "softmax"}
    if kind == "unified_metric":
        settings = {"input_segments": ["mt", "src", "ref"], "sent_layer": "mix", "word_level_training": False}
    model = str2model[kind](
        encoder_model="XLM-RoBERTa",
        pretrained_model=str(encoder),
        load_pretrained_weights=False,
        local_files_only=True,
        hidden_sizes=[64, 32],
        nr_frozen_epochs=0,
        keep_embeddings_frozen=False,
        **settings,
    )
    parameters = {**model.hparams, "class_identifier": kind, "load_pretrained_weights": False}
    (folder / "checkpoints").mkdir()
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": parameters,
            "pytorch-lightning_version": pytorch_lightning.__version__,
            "epoch": 0,
            "global_step": 0,
        },
        folder / "checkpoints" / "model.ckpt",
    )
    (folder / "hparams.yaml").write_text(yaml.safe_dump(parameters))
    return folder


def _tokenizer(folder: Path, text: list[str]) -> int:
    """An XLM-R tokeniser of a few hundred pieces; returns their number."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import XLMRobertaTokenizerFast

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    tokens = list(dict.fromkeys(SPECIAL.values()))
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=tokens, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(text, trainer)
    ends = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    named = {f"{name}_token": token for name, token in SPECIAL.items()}
    tokenizer = XLMRobertaTokenizerFast(tokenizer_object=made, **named)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _encoder_config(folder: Path, vocabulary: int) -> None:
    from transformers import XLMRobertaConfig

    XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    ).save_pretrained(folder)
