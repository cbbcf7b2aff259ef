"""Shorten the stages of a recipe for a probe: few sentences, few updates, and models of the recipe's own shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch
from pathlib import Path
from typing import Any

from kd.models.transformer import training_flops
from kd.pipeline.model import StageSpec
from kd.recipe.schema import (
    CheckpointConfig,
    CorpusConfig,
    CorpusFormat,
    DecodeConfig,
    EvaluateConfig,
    ExportConfig,
    SearchConfig,
    ShardConfig,
    SourceConfig,
    SpeedConfig,
    SplitConfig,
    StopConfig,
    TrainConfig,
    TranslateConfig,
)
from kd.stages.grid import SHAPE, budget

SAMPLE = "sample"  # name of the corpus
SENTENCES = 1024  # decoded at most; batches of fewer would have less equal lengths than those of a shard
TEXT_LINES = 2500  # of a shard, where nothing is decoded
BATCH_FLOPS = 3e11  # of a micro-batch at most: some seconds of a CPU core
DECODED_FLOPS = 4e11  # of a decoding at most
UPDATES = 400  # of a training at most


@dataclass
class Size:
    """The size of a miniature.

    Attributes:
        folder: Folder with the sample of the recipe's text.
        seconds: Duration of a training.
        vocabulary: Size of the models' vocabulary.
        longest: Largest number of tokens in a sentence.
        sentences: Number of sentences to decode.
        held: Number of dev sentences, and of test sentences.
        steps: Limit on the steps of a search; 0 while the lengths of the text are unknown.
        lists_made_up: Whether nothing is decoded, and selection reads synthetic lists.
    """

    folder: Path
    seconds: float
    vocabulary: int
    longest: int
    sentences: int
    held: int
    steps: int = 0
    lists_made_up: bool = False

    def of(self, spec: StageSpec) -> StageSpec:
        """Return a stage of the recipe with less work."""
        return replace(spec, config=shortened(spec.config, self))


def micro_batch(config: TrainConfig, otherwise: int) -> int:
    """Return the tokens of a training's micro-batch; `otherwise` if the setting is `auto`."""
    size = config.batch.max_tokens
    return size if isinstance(size, int) else otherwise


def decoded_sentences(parameters: float, steps: float) -> int:
    """Return the number of sentences whose decoding takes the computation that a probe spends on it, DECODED_FLOPS.

    Args:
        parameters: Parameters of all models that decode.
        steps: Decoding steps of a sentence.
    """
    return int(DECODED_FLOPS / max(1.0, 2 * parameters * steps))


@singledispatch
def shortened(config: Any, size: Size) -> Any:
    """Return the settings of a stage with less work: shorter, but as fast per item."""
    return config


@shortened.register
def _(config: CorpusConfig, size: Size) -> CorpusConfig:
    source, target = (str(size.folder / f"sample.{side}") for side in ("source", "target"))
    sample = SourceConfig(format=CorpusFormat.plain, source=source, target=target)
    return replace(config, sources={SAMPLE: sample}, leakage="remove")


@shortened.register
def _(config: SplitConfig, size: Size) -> SplitConfig:
    return replace(config, dev=size.held, test=size.held, by="source")


@shortened.register
def _(config: ShardConfig, size: Size) -> ShardConfig:
    # A small shard can be decoded in some seconds; text alone is read in larger ones.
    return replace(config, lines=size.sentences if size.steps else min(config.lines, TEXT_LINES))


@shortened.register
def _(config: TrainConfig, size: Size) -> TrainConfig:
    flops = training_flops(config.model, size.vocabulary, 25, 25)
    longest = size.longest + 1
    tokens = min(config.batch.target_tokens, max(64, int(BATCH_FLOPS / flops)))
    return replace(
        config,
        max_update=UPDATES,
        validate_bleu=False,
        log_every=1,
        batch=replace(
            config.batch,
            target_tokens=tokens,
            max_tokens=max(longest, min(micro_batch(config, 2 * tokens + longest), 2 * tokens + longest)),
        ),
        stop=StopConfig(hours=size.seconds / 3600),
        checkpoint=CheckpointConfig(every=UPDATES, keep=1, average=1, metric=config.checkpoint.metric),
        optimizer=replace(config.optimizer, decay_updates=10**6),
    )


@shortened.register
def _(config: SearchConfig, size: Size) -> SearchConfig:
    # The largest cell alone; the others and the student are scaled from it.
    largest: dict[str, Any] = {name: [max(values)] for name in SHAPE if (values := getattr(config, name))}
    return replace(config, **largest, seeds=1, training=shortened(budget(config), size), changes={})


@shortened.register
def _(config: DecodeConfig, size: Size) -> DecodeConfig:
    share = 1.0 if size.lists_made_up else 1e-9
    return replace(config, workers=1, share=share, max_pieces=size.steps or config.max_pieces)


@shortened.register
def _(config: TranslateConfig, size: Size) -> TranslateConfig:
    return replace(config, max_pieces=size.steps or config.max_pieces)


@shortened.register
def _(config: SpeedConfig, size: Size) -> SpeedConfig:
    return replace(config, max_pieces=size.steps or config.max_pieces, repeats=1, sentences=32)


@shortened.register
def _(config: ExportConfig, size: Size) -> ExportConfig:
    # Nearly random weights have near ties, in which CTranslate2 and fairseq differ.
    return replace(config, least_agreement=0.0)


@shortened.register
def _(config: EvaluateConfig, size: Size) -> EvaluateConfig:
    return replace(config, metrics={key: on and key != "comet" for key, on in config.metrics.items()})


def affordable(decodings: Iterable[tuple[int, int]]) -> int:
    """Return how many sentences to decode, given the parameters and beams of all decodings."""
    costs = [float(parameters * beam) for parameters, beam in decodings]
    fewest = min((decoded_sentences(cost, steps=25) for cost in costs), default=SENTENCES)
    return max(32, min(SENTENCES, fewest))
