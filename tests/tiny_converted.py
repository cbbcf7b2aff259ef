"""A tiny Marian model of random weights, as Hugging Face's tools save it: a teacher of another kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def save_random_marian(folder: Path, texts: Iterable[str], seed: int = 1) -> Path:
    """Save a model whose vocabulary is that of the texts; it translates into words of theirs in any order."""
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "pieces"), vocab_size=120, character_coverage=1.0,
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    vocabulary = ["</s>", "<unk>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}), "utf-8")
    model, pad = str(folder / "pieces.model"), len(vocabulary) - 1
    torch.manual_seed(seed)
    side = {"layers": 1, "attention_heads": 2, "ffn_dim": 64, "layerdrop": 0.0}
    shape = {f"{name}_{key}": value for name in ("encoder", "decoder") for key, value in side.items()}
    config = MarianConfig(
        vocab_size=len(vocabulary), d_model=32, **shape, max_position_embeddings=64, pad_token_id=pad, eos_token_id=0,
        scale_embedding=True, decoder_start_token_id=pad, forced_eos_token_id=0, bad_words_ids=[[pad]], init_std=0.5,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(str(folder))
    MarianTokenizer(model, model, str(folder / "vocab.json")).save_pretrained(str(folder))
    return folder
