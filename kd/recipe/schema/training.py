"""Settings of a training: model, optimisation, batches, checkpoints and the conditions that end it.

Teachers and students share these settings; values are in conf/teacher/ and conf/student/.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kd.recipe.schema.learning import DistillConfig, StartConfig
from kd.recipe.schema.marks import same_as, setting

AUTO = "auto"


@dataclass
class ModelConfig:
    """The shape of a Transformer (Vaswani et al., 2017)."""

    encoder_layers: int = setting("Layers of the encoder.", at_least=1, aliases=("layers", "num_layers"))
    decoder_layers: int = setting("Layers of the decoder.", at_least=1, aliases=("layers", "num_layers"))
    width: int = setting(
        "Width of the embeddings and of the residual stream.",
        at_least=1,
        aliases=("d_model", "embed_dim", "hidden_size", "dim"),
    )
    ffn: int = setting(
        "Width inside the feed-forward block.", at_least=1, aliases=("ffn_dim", "d_ff", "ffn_embed_dim", "dim_ffn")
    )
    heads: int = setting(
        "Attention heads; they must divide the width.", at_least=1, aliases=("attention_heads", "num_heads")
    )
    pre_norm: bool = setting(
        "Normalise before each block instead of after it.", aliases=("normalize_before", "layer_norm")
    )
    activation: str = setting("Activation of the feed-forward block, by fairseq's name.", "relu")
    dropout: float = setting("Dropout of residual connections and embeddings.", at_least=0, below=1)
    attention_dropout: float = setting("Dropout of attention weights.", at_least=0, below=1)
    activation_dropout: float = setting("Dropout after the activation.", at_least=0, below=1)
    tie_embeddings: bool = setting(
        "Share one matrix between source, target and output.", True, aliases=("share_embeddings", "tied_embeddings")
    )


class Schedule(Enum):
    """Decay of the learning rate after its peak."""

    inverse_sqrt = "inverse_sqrt"  # with the square root of updates (Vaswani et al., 2017, 5.3); has no end
    linear = "linear"  # to 0 at `decay_updates`; best for a length that is fixed beforehand


@dataclass
class OptimizerConfig:
    """Adam with warm-up."""

    learning_rate: float = setting("Learning rate at its peak.", above=0, aliases=("lr", "rate"))
    warmup_updates: int = setting(
        "Updates until the learning rate reaches its peak.",
        unit="updates",
        at_least=0,
        aliases=("warmup", "warmup_steps"),
    )
    schedule: Schedule = setting(
        "Decay of the learning rate after its peak: by the inverse square root of updates, or linearly to 0.",
        Schedule.inverse_sqrt,
        aliases=("lr_scheduler", "lr_schedule", "scheduler"),
    )
    decay_updates: int = setting(
        "Update at which `linear` reaches 0; a training cannot be continued with another value.",
        0,
        unit="updates",
        at_least=0,
    )
    betas: tuple[float, float] = setting(
        "Decay of Adam's two moment estimates.", (0.9, 0.98), at_least=0, below=1, aliases=("adam_betas",)
    )
    epsilon: float = setting("Adam's epsilon.", 1e-8, above=0, aliases=("eps", "adam_eps"))
    weight_decay: float = setting("Weight decay.", 0.0, at_least=0, aliases=("wd",))
    clip_norm: float = setting(
        "Largest norm of the gradient; 0: not clipped.", 0.0, at_least=0, aliases=("max_grad_norm", "gradient_clip")
    )
    label_smoothing: float = setting(
        "Label smoothing: probability mass spread over the whole vocabulary.", at_least=0, below=1
    )


@dataclass
class BatchConfig:
    """The size of an update. Accumulation is derived: fairseq's own `max_tokens` counts padding and the longer side."""

    target_tokens: int = setting(
        "Target tokens per update, over all devices.",
        unit="target tokens",
        at_least=1,
        aliases=("batch_size", "batch", "tokens_per_batch"),
    )
    max_tokens: int | str = setting(
        "Tokens of a micro-batch, per device and forward pass; auto: derived from the device at the first start.",
        AUTO,
        unit="tokens",
        at_least=1,
        choices=(AUTO,),
        aliases=("micro_batch", "mini_batch", "batch_size"),
        transient=True,
    )


class Precision(Enum):
    """Number format of the forward and backward pass."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    tf32 = "tf32"  # fp32, with matrix products in TensorFloat-32
    auto = "auto"  # derived from the device when the training first starts


class Metric(Enum):
    """The measure of a validation on dev."""

    bleu = "bleu"  # sacreBLEU on plain text, greedy decoding; needs `validate_bleu`
    loss = "loss"  # label-smoothed


class Which(Enum):
    """The choice among several checkpoints."""

    last = "last"
    best = "best"


@dataclass
class CheckpointConfig:
    """The checkpoints that a training keeps, and those of which the final model is made."""

    every: int = setting(
        "Updates between checkpoints.",
        unit="updates",
        at_least=1,
        aliases=("save_every", "save_interval", "save_steps"),
    )
    validate_every: int = setting(
        "Updates between measurements of dev loss and dev BLEU, a multiple of `every`; 0: at each checkpoint.",
        0,
        unit="updates",
        at_least=0,
        aliases=("eval_steps", "validate_interval"),
        extent=True,
    )
    keep: int = setting(
        "Newest checkpoints kept.", unit="checkpoints", at_least=1, aliases=("save_total_limit",), extent=True
    )
    keep_best: int = setting(
        "Number of best checkpoints by `metric` to keep as well.", 0, unit="checkpoints", at_least=0, extent=True
    )
    keep_every: int = setting(
        "Also keep every checkpoint at a multiple of this number of updates; 0: none.",
        0,
        unit="updates",
        at_least=0,
        extent=True,
    )
    metric: Metric = setting("Validation measure that ranks checkpoints.", Metric.bleu, extent=True)
    average: int = setting("Checkpoints averaged into the final model.", unit="checkpoints", at_least=1, extent=True)
    ema: float = setting(
        "Decay of an exponential moving average of the weights, updated after each update past the warm-up; the final "
        "model is averaged from it; 0: off.",
        0.0,
        at_least=0,
        below=1,
        aliases=("exponential_smoothing", "ema_decay"),
    )
    average_of: Which = setting("Average the newest checkpoints or the best ones.", Which.last, extent=True)


@dataclass
class StopConfig:
    """Conditions that end a training before `max_update`; 0 switches a condition off."""

    patience: int = setting(
        "Validations in a row without an improvement of `checkpoint.metric`; 0: no limit.",
        0,
        unit="validations",
        at_least=0,
        aliases=("early_stopping", "early_stopping_patience"),
    )
    target_tokens: int = setting("Target tokens seen; 0: no limit.", 0, unit="target tokens", at_least=0)
    hours: float = setting(
        "Hours of training, summed over interruptions; machines of different speed stop at different updates; 0: no "
        "limit.",
        0.0,
        unit="hours",
        at_least=0,
    )


@dataclass
class TrainConfig:
    """The settings of a training: an ensemble of teachers, or a student."""

    model: ModelConfig = setting("Shape of the Transformer.", factory=ModelConfig)
    optimizer: OptimizerConfig = setting("Adam and its learning rate.", factory=OptimizerConfig)
    batch: BatchConfig = setting("Size of an update.", factory=BatchConfig)
    checkpoint: CheckpointConfig = setting(
        "Checkpoints; as in the group `checkpoint` unless a recipe overrides its keys here.",
        same_as("checkpoint"),
    )
    distill: DistillConfig = setting("Token distributions of the teachers in the loss.", factory=DistillConfig)
    start: StartConfig = setting("Start from layers of a teacher.", factory=StartConfig)
    members: int = setting(
        "Number of trainings, which differ only in their seed; each is a task.",
        unit="trainings",
        at_least=1,
        aliases=("ensemble", "ensemble_size", "num_models"),
        transient=True,
    )
    seed: int = setting("Seed of the first member; the next member has the next number.", at_least=0)
    from_search: bool = setting(
        "Take layers, width, ffn, heads and training data from the search (chain=search).", False
    )
    max_update: int = setting(
        "Updates to train.",
        unit="updates",
        at_least=1,
        aliases=("epochs", "max_epoch", "max_epochs", "steps", "max_steps", "updates", "num_updates", "train_steps"),
        extent=True,
    )
    stop: StopConfig = setting("Conditions that end the training early.", factory=StopConfig, extent=True)
    precision: Precision = setting(
        "Number format of the forward and backward pass.", Precision.auto, aliases=("dtype", "fp16", "bf16", "amp")
    )
    init_from: str | None = setting(
        "Checkpoint or model folder to start from, identified by its content; `{member}` is the member's number.",
        None,
        aliases=("restore_file", "finetune_from", "pretrained"),
        path=True,
        transient=True,
    )
    validate_bleu: bool = setting(
        "Measure greedy BLEU on dev at each checkpoint.", aliases=("eval_bleu",), transient=True
    )
    log_every: int = setting(
        "Updates between lines of metrics.jsonl.",
        unit="updates",
        at_least=1,
        aliases=("log_interval", "logging_steps"),
        transient=True,
    )
    stall_minutes: float = setting(
        "Minutes without any computation after which a process is ended and its task retried; 0: never.",
        15.0,
        unit="minutes",
        at_least=0,
        transient=True,
    )


@dataclass
class FinetuneConfig(TrainConfig):
    """A training that continues from the student; keys that are not set here are the student's."""

    model: ModelConfig = setting("Shape of the Transformer: the student's.", same_as("student.model"))
    batch: BatchConfig = setting("Size of an update.", same_as("student.batch"))
    members: int = setting(
        "Number of trainings, which differ only in their seed.", same_as("student.members"), at_least=1, transient=True
    )
    seed: int = setting("Seed of the first member.", same_as("student.seed"), at_least=0)
    from_search: bool = setting("Whether the student's shape comes from a search.", same_as("student.from_search"))
    precision: Precision = setting("Number format of the forward and backward pass.", same_as("student.precision"))
    validate_bleu: bool = setting(
        "Measure greedy BLEU on dev at each checkpoint.", same_as("student.validate_bleu"), transient=True
    )
    log_every: int = setting(
        "Updates between lines of metrics.jsonl.",
        same_as("student.log_every"),
        unit="updates",
        at_least=1,
        transient=True,
    )
    stall_minutes: float = setting(
        "Minutes without any computation after which a process is ended; 0: never.",
        same_as("student.stall_minutes"),
        unit="minutes",
        at_least=0,
        transient=True,
    )


@dataclass
class AverageConfig:
    """Averaging of a training's kept checkpoints, as a separate stage."""

    count: int = setting("Checkpoints averaged.", 5, unit="checkpoints", at_least=1)
    of: Which = setting("The newest checkpoints or the best ones.", Which.last)
    metric: Metric = setting("Validation measure that ranks checkpoints.", Metric.bleu)
    upto: int = setting("Last update whose checkpoint may be averaged; 0: no limit.", 0, unit="updates", at_least=0)
