"""Settings of a training: model, optimisation, batches, checkpoints, and what ends it.

Teachers and students have the same ones; values are in conf/teacher/ and conf/student/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import II, MISSING

from kd.recipe.schema.marks import EXTENT, TRANSIENT


@dataclass
class ModelConfig:
    """The shape of a Transformer (Vaswani et al., 2017)."""

    encoder_layers: int = MISSING
    decoder_layers: int = MISSING
    width: int = MISSING  # of embeddings and residual stream
    ffn: int = MISSING  # width inside the feed-forward block
    heads: int = MISSING
    pre_norm: bool = MISSING  # layer normalisation before each block instead of after it
    activation: str = "relu"
    dropout: float = MISSING
    attention_dropout: float = MISSING
    activation_dropout: float = MISSING
    tie_embeddings: bool = True  # one matrix for source, target and output


class Schedule(Enum):
    """How the learning rate falls after its peak."""

    inverse_sqrt = "inverse_sqrt"  # with the square root of updates (Vaswani et al., 2017, 5.3); can go on for ever
    linear = "linear"  # to 0 at `decay_updates`; best for a length that is known beforehand


@dataclass
class OptimizerConfig:
    """Adam with warm-up."""

    learning_rate: float = MISSING  # at its peak
    warmup_updates: int = MISSING
    schedule: Schedule = Schedule.inverse_sqrt
    decay_updates: int = 0  # of `linear`: where the rate reaches 0; a longer training is then another training
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # 0: none
    label_smoothing: float = MISSING


@dataclass
class BatchConfig:
    """What one update sees. Accumulation is derived: fairseq's own `max_tokens` counts padding and the longer side."""

    target_tokens: int = MISSING  # per update, over all devices
    max_tokens: int = field(default=MISSING, metadata=TRANSIENT)  # per device and forward pass: what memory allows


class Precision(Enum):
    """Of the forward and backward pass."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Metric(Enum):
    """What a validation measures on dev."""

    bleu = "bleu"  # sacreBLEU on plain text, greedy decoding; needs `validate_bleu`
    loss = "loss"  # label-smoothed


class Which(Enum):
    """Of several checkpoints."""

    last = "last"
    best = "best"


@dataclass
class CheckpointConfig:
    """What a training leaves on disk while it runs, and what of it the final model is made from."""

    every: int = MISSING  # updates between checkpoints; dev loss and dev BLEU are measured at each
    keep: int = field(default=MISSING, metadata=EXTENT)  # newest checkpoints kept
    keep_best: int = field(default=0, metadata=EXTENT)  # best ones kept as well, by `metric`
    keep_every: int = field(default=0, metadata=EXTENT)  # those of each so many updates are kept as well; 0: none
    metric: Metric = field(default=Metric.bleu, metadata=EXTENT)  # which validation is the best
    average: int = field(default=MISSING, metadata=EXTENT)  # checkpoints averaged into the final model …
    average_of: Which = field(default=Which.last, metadata=EXTENT)  # … the newest ones, or the best


@dataclass
class StopConfig:
    """What ends a training before `max_update`; 0 switches a reason off."""

    patience: int = 0  # validations in a row that were no better than the best by `checkpoint.metric`
    target_tokens: int = 0  # seen in training
    hours: float = 0.0  # of training, over all interruptions; no two machines end at the same update


@dataclass
class TrainConfig:
    """A training: an ensemble of teachers, or a student."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    checkpoint: CheckpointConfig = field(default=II("checkpoint"))  # the group, unless a recipe sets keys of it here
    members: int = field(default=MISSING, metadata=TRANSIENT)  # trainings that differ by seed alone; each a task
    seed: int = MISSING  # of the first member; the next has one more
    # Encoder and decoder layers, width, ffn and heads are those that a search chose (chain=search), and so is the data.
    from_search: bool = False
    max_update: int = field(default=MISSING, metadata=EXTENT)
    stop: StopConfig = field(default_factory=StopConfig, metadata=EXTENT)
    precision: Precision = Precision.fp32
    # A checkpoint or model folder to start from, `{member}` in it is the member's number; by what it holds, not by its
    # path, it is a part of the training. Its vocabulary and shape must be those of the training.
    init_from: str | None = field(default=None, metadata=TRANSIENT)
    validate_bleu: bool = field(default=MISSING, metadata=TRANSIENT)  # greedy BLEU on dev at each checkpoint
    log_every: int = field(default=MISSING, metadata=TRANSIENT)  # updates between lines of metrics.jsonl
    # A process that computes nothing for so long is ended, and with it the task, which is tried again; 0: never.
    stall_minutes: float = field(default=15.0, metadata=TRANSIENT)


@dataclass
class FinetuneConfig(TrainConfig):
    """A training that goes on from the student: what is not said here is the student's."""

    model: ModelConfig = field(default=II("student.model"))
    batch: BatchConfig = field(default=II("student.batch"))
    members: int = field(default=II("student.members"), metadata=TRANSIENT)
    seed: int = II("student.seed")
    from_search: bool = II("student.from_search")
    precision: Precision = II("student.precision")
    validate_bleu: bool = field(default=II("student.validate_bleu"), metadata=TRANSIENT)
    log_every: int = field(default=II("student.log_every"), metadata=TRANSIENT)
    stall_minutes: float = field(default=II("student.stall_minutes"), metadata=TRANSIENT)


@dataclass
class AverageConfig:
    """Averaging of a training's kept checkpoints, as a step of its own."""

    count: int = 5  # checkpoints
    of: Which = Which.last
    metric: Metric = Metric.bleu  # by which `best` is meant
    upto: int = 0  # no checkpoint after this update; 0: all
