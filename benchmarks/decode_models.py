"""Models for `bench_decode.py`: small ones trained for a few minutes, so that their outputs end where they should.

With random weights every hypothesis runs to the cap and beams are ties; that measures other work than decoding does.
"""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from kd.recipe.schema import (
    BatchConfig,
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    Schedule,
    TrainConfig,
    VocabularyConfig,
)

Pairs = list[tuple[str, str]]

SHAPES = {
    # encoder and decoder layers, width, width of the feed-forward block, heads
    "tiny": (3, 3, 128, 512, 4),
    "student": (12, 1, 512, 2048, 8),
    "base": (6, 6, 512, 2048, 8),
    "big": (6, 6, 1024, 4096, 16),
}
_HELD_OUT = 1000
_END = 4.5


def model_config(shape: str) -> ModelConfig:
    """A pre-norm Transformer of this name (post-norm where it is big), without dropout."""
    encoder, decoder, width, ffn, heads = SHAPES[shape]
    return ModelConfig(
        encoder_layers=encoder,
        decoder_layers=decoder,
        width=width,
        ffn=ffn,
        heads=heads,
        pre_norm=shape != "big",
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
    )


def generated_pairs(count: int, seed: int) -> Pairs:
    """Sentences of a made-up language of 3,000 words, and their translations: other words, neighbours swapped."""
    rng = random.Random(seed)
    letters = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = [("".join(letters.choices(syllables, k=3)), "".join(letters.choices(syllables, k=3))) for _ in range(3000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]  # as words are: Zipf
    pairs = []
    for _ in range(count):
        chosen = rng.choices(words, weights, k=max(2, min(40, round(rng.lognormvariate(2.5, 0.5)))))
        swapped = [word for i in range(0, len(chosen), 2) for word in reversed(chosen[i : i + 2])]
        pairs.append((" ".join(word for word, _ in chosen) + ".", " ".join(word for _, word in swapped) + "."))
    return pairs


def read_pairs(source: Path, target: Path) -> Pairs:
    """Aligned files of text, gzipped or not."""

    def lines(path: Path) -> Iterator[str]:
        with (
            gzip.open(path, "rt", encoding="utf-8", newline="\n")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8", newline="\n") as file
        ):
            for line in file:
                yield line.rstrip("\n")

    return list(zip(lines(source), lines(target), strict=True))


def held_out(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """To train on, and the last ones to decode."""
    return pairs[:-_HELD_OUT], pairs[-_HELD_OUT:]


def prepare(folder: Path, pairs: Pairs, *, shape: str, members: int, updates: int, vocabulary_size: int) -> list[Path]:
    """Model folders of an ensemble, trained unless they are there; random weights where `updates` is 0."""
    vocabulary = folder / "vocabulary"
    if not (vocabulary / "dict.txt").is_file():
        _vocabulary(vocabulary, pairs, vocabulary_size)
    folders = [folder / f"{shape}-{updates}" / f"member-{number}" for number in range(1, members + 1)]
    for number, out in enumerate(folders, 1):
        if not (out / "model.pt").is_file():
            out.mkdir(parents=True, exist_ok=True)
            for name in ("dict.txt", "vocabulary.model"):
                shutil.copy(vocabulary / name, out / name)
            if updates:
                print(f"training member {number} of {members}, {updates} updates …", flush=True)
                _train(out, vocabulary, folder / "data", pairs, shape, updates, number)
            else:
                _random(out, shape, number)
    return folders


def _vocabulary(folder: Path, pairs: Pairs, size: int) -> None:
    from kd.models import vocabulary

    config = VocabularyConfig(
        size=size,
        model="unigram",
        character_coverage=1.0,
        normalization="identity",
        byte_fallback=True,
        split_digits=True,
        sample=100_000,
        seed=1,
    )
    vocabulary.train((side for pair in pairs for side in pair), folder, config)


def _train(out: Path, vocabulary: Path, data: Path, pairs: Pairs, shape: str, updates: int, seed: int) -> None:
    from kd.engines.fairseq import batching, training
    from kd.engines.fairseq.average import average
    from kd.engines.fairseq.binary import IndexedReader
    from kd.engines.fairseq.flags import TrainSpec

    if not (data / "train.source-target.target.idx").is_file():
        write_data(data, "valid", pairs[-100:], vocabulary)  # fairseq-train wants one
        write_data(data, "train", pairs, vocabulary)
    sizes = [IndexedReader(data / f"train.source-target.{side}").sizes for side in ("source", "target")]
    plan = batching.plan(*sizes, target_tokens=1500, max_tokens=2000)
    config = TrainConfig(
        model=model_config(shape),
        optimizer=OptimizerConfig(
            learning_rate=4e-3 if shape == "tiny" else 7e-4,
            warmup_updates=updates // 8,
            schedule=Schedule.linear,
            decay_updates=updates,
            label_smoothing=0.1,
            clip_norm=1.0,
        ),
        batch=BatchConfig(target_tokens=1500, max_tokens=2000),
        checkpoint=CheckpointConfig(every=updates, keep=1, average=1),
        members=1,
        seed=seed,
        max_update=updates,
        validate_bleu=False,
        log_every=100,
    )
    spec = TrainSpec(
        config=config,
        data=(data,),
        vocabulary=vocabulary / "vocabulary.model",
        max_pieces=128,
        max_tokens=plan.max_tokens,
        update_freq=plan.update_freq,
        seed=seed,
    )
    result = training.train(spec, out, threads=1)
    average(list(result.checkpoints), out / "model.pt")
    shutil.rmtree(out / "checkpoints")


def write_data(folder: Path, split: str, pairs: Pairs, vocabulary: Path) -> None:
    """Pairs of at most 127 pieces a side, as fairseq's data."""
    from kd.engines.fairseq.binary import IndexedWriter
    from kd.models.vocabulary import Vocabulary

    pieces = Vocabulary(vocabulary)
    folder.mkdir(parents=True, exist_ok=True)
    sides = [pieces.encode_ids([pair[side] for pair in pairs]) for side in (0, 1)]
    kept = [row for row in zip(*sides, strict=True) if all(0 < len(ids) < 128 for ids in row)]
    for column, side in enumerate(("source", "target")):
        shutil.copy(vocabulary / "dict.txt", folder / f"dict.{side}.txt")
        with IndexedWriter(folder / f"{split}.source-target.{side}", pieces.size) as writer:
            writer.write([row[column] for row in kept])


def _random(out: Path, shape: str, seed: int) -> None:
    import torch

    from kd.engines.fairseq.model import build

    torch.manual_seed(seed)
    model = build(model_config(shape), out / "dict.txt")
    with torch.no_grad():
        # Ends come at various lengths: a random model would go on to the limit with every hypothesis.
        model.decoder.output_projection.weight[2] *= _END
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    state = {
        "model": model.state_dict(),
        "args": None,
        "cfg": _configuration(shape, out),
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1}},
    }
    torch.save(state, out / "model.pt")


def _configuration(shape: str, out: Path) -> object:
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from omegaconf import OmegaConf

    from kd.engines.fairseq.flags import model_arguments

    flags = [str(out), "--task", "translation", *model_arguments(model_config(shape))]
    flags += ["--max-source-positions", "129", "--max-target-positions", "129"]
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=flags)
    return OmegaConf.to_container(convert_namespace_to_omegaconf(arguments), resolve=True, enum_to_str=True)
