"""Settings of distillation: guards, decoding with an ensemble, selection, and what may take their place.

Models and n-best lists that were made elsewhere enter here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import II, MISSING

from kd.recipe.schema.marks import EXTENT, TRANSIENT
from kd.recipe.schema.training import Precision


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
    retry_precision: Precision | None = None  # bf16 or fp32: after NaN a shard is decoded again in it; null: error
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


@dataclass
class StudentsConfig:
    """Which students there are beside the one that the recipe is for; one that is off costs nothing.

    All have its architecture, seeds and, but for the two that go on from it, its number of updates.
    """

    control: bool = True  # on the human translations
    first: bool = False  # on the ensemble's best: sequence-level distillation without selection
    best_and_gold: bool = False  # on what was selected and on the human translations, as two pairs
    finetuned: bool = False  # the student, then trained on the human translations; conf/finetune
    in_domain: bool = False  # the student, then trained on the human translations of the corpora in `in_domain`


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
