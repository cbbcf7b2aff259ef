"""What a probe leaves of a recipe: few sentences, few updates, and models of the recipe's own shapes.

One way for every kind of stage: what is shortened is what costs time, never what says how fast the rest is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd.pipeline.model import StageSpec
from kd.pipeline.plan import Plan
from kd.planning.assumptions import Assumptions
from kd.planning.figures import Figure
from kd.planning.shapes import training_operations
from kd.planning.volume import Text, Volume, models_behind, weights
from kd.recipe.schema import (
    CheckpointConfig,
    CorpusConfig,
    DecodeConfig,
    SearchConfig,
    SourceConfig,
    StopConfig,
    TrainConfig,
)
from kd.stages.grid import SHAPE, budget

SAMPLE = "sample"  # name of the corpus
SENTENCES = 1024  # decoded at most: of fewer, batches are of sentences less alike in length than those of a shard
TEXT_LINES = 2500  # of a shard, where nothing is decoded
PASS_OPERATIONS = 3e11  # of a training's passes at most: some seconds of a CPU core
DECODED_OPERATIONS = 4e11  # of a decoding at most
_MOST_UPDATES = 400


@dataclass
class Size:
    """How small a recipe becomes.

    folder: has the sample of its text; seconds: of a training; vocabulary: pieces of the models; longest: pieces of a
    sentence; sentences: to decode; held: dev and test sentences each. steps: of a search, 0 while the lengths of the
    text are not known; lists_made_up: whether nothing is decoded, and selection reads lists that were made up.
    """

    folder: Path
    seconds: float
    vocabulary: int
    longest: int
    sentences: int
    held: int
    steps: int = 0
    lists_made_up: bool = False

    def of(self, entry: StageSpec) -> StageSpec:
        """A stage of the recipe with less to do."""
        config, name = entry.config, entry.kind.name
        if isinstance(config, CorpusConfig):
            source, target = (str(self.folder / f"sample.{side}") for side in ("source", "target"))
            sample = SourceConfig(format="plain", source=source, target=target)
            config = replace(config, sources={SAMPLE: sample}, leakage="remove")
        elif name == "split":
            held = self.held
            config = replace(config, dev=held, test=held, by="source")
        elif name == "shard":
            # A small shard is what can be decoded in some seconds; text alone goes by larger ones.
            config = replace(config, lines=self.sentences if self.steps else min(config.lines, TEXT_LINES))
        elif isinstance(config, TrainConfig):
            config = self._short_training(config)
        elif isinstance(config, SearchConfig):
            config = self._short_search(config)
        elif isinstance(config, DecodeConfig):
            share = 1.0 if self.lists_made_up else 1e-9
            config = replace(config, workers=1, share=share, max_pieces=self.steps or config.max_pieces)
        elif name in ("translate", "speed"):
            config = replace(config, max_pieces=self.steps or config.max_pieces)
            config = replace(config, repeats=1, sentences=32) if name == "speed" else config
        elif name == "evaluate":
            config = replace(config, metrics={key: on and key != "comet" for key, on in config.metrics.items()})
        return replace(entry, config=config)

    def _short_training(self, config: TrainConfig) -> TrainConfig:
        operations = training_operations(config.model, self.vocabulary, 25, 25)
        longest = self.longest + 1
        tokens = min(config.batch.target_tokens, max(64, int(PASS_OPERATIONS / operations)))
        most = max(longest, min(config.batch.max_tokens, 2 * tokens + longest))
        updates = _MOST_UPDATES
        return replace(
            config,
            max_update=updates,
            members=config.members,
            validate_bleu=False,
            log_every=1,
            batch=replace(config.batch, target_tokens=tokens, max_tokens=most),
            stop=StopConfig(hours=self.seconds / 3600),
            checkpoint=CheckpointConfig(every=updates, keep=1, average=1, metric=config.checkpoint.metric),
            optimizer=replace(config.optimizer, decay_updates=10**6),
        )

    def _short_search(self, config: SearchConfig) -> SearchConfig:
        """The largest cell alone, which says how fast the others and the student are."""
        largest: dict[str, Any] = {name: [max(values)] for name in SHAPE if (values := getattr(config, name))}
        training = self._short_training(budget(config))
        return replace(config, **largest, seeds=1, training=training, changes={})


def affordable(plan: Plan, vocabulary: int) -> int:
    """How many sentences to decode: as many as some seconds have room for."""
    tasks = [stage.tasks[0] for stage in plan.stages if stage.kind.name == "decode"]
    volume = Volume(Assumptions({}), vocabulary, Figure(1.0), Text())
    costs = [1.0]
    for task in tasks:
        models = models_behind([item.task for item in task.inputs["teachers"]])
        costs.append(sum(2 * weights(each, volume) for each in models) * 25 * task.stage.config.beam)
    return int(max(32, min(SENTENCES, DECODED_OPERATIONS / max(costs))))
