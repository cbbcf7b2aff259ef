"""Settings of distillation: guards, decoding with an ensemble, selection and scores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from kd.recipe.schema.backward import BackwardDropConfig, BackwardModelConfig
from kd.recipe.schema.marks import same_as, setting


@dataclass
class GuardsConfig:
    """Guards, which reject a hypothesis whatever its score (kd/corpora/guards.py); each can be switched off."""

    empty: bool = setting("Refuse a hypothesis without text if the source has text.")
    unknown: bool = setting(
        "Refuse the sign of an unknown symbol or of broken UTF-8 (⁇, <unk>, U+FFFD) that is not in the source.",
        True,
    )
    limit: bool = setting("Refuse a hypothesis that the search ended at decode.max_pieces.", False)
    copy: bool = setting("Refuse a copy of the source, ignoring case, spaces and punctuation.")
    copy_words: int = setting(
        "copy: fewest words in the source, not counting words with a capital or a digit.",
        unit="words",
        at_least=0,
    )
    length: bool = setting("Refuse a hypothesis that is much longer or shorter than its source.")
    max_ratio: float = setting("length: largest ratio of the longer side to the shorter, in characters.", above=1)
    ratio_slack: int = setting(
        "length: characters added to both sides before the ratio is taken.", unit="characters", at_least=0
    )
    repetition: bool = setting("Refuse a phrase that is repeated over and over.")
    repeats: int = setting("repetition: smallest number of repetitions beyond those in the source.", at_least=1)
    language: bool = setting("Refuse another language than the target's, unless it is closely related.")
    language_letters: int = setting(
        "language: fewest letters in a hypothesis, counting only words without capital or digit.",
        unit="letters",
        at_least=0,
    )
    language_probability: float = setting(
        "language: smallest probability of another language at which a hypothesis is refused.", above=0, at_most=1
    )


class DecodeEngine(Enum):
    """The engine with which an ensemble decodes."""

    ensemble = "ensemble"  # one beam search: the members' probabilities are averaged at each step
    members = "members"  # each member alone with CTranslate2; all members score every hypothesis


class DecodeMethod(Enum):
    """The method of finding the hypotheses of an n-best list."""

    beam = "beam"  # beam search: the most probable ones that it finds, often alike
    sample = "sample"  # drawn from the teachers' distribution: as many samples as `nbest`
    diverse = "diverse"  # diverse beam search (Vijayakumar et al., 2018): groups of the beam avoid each other's tokens


class LongSources(Enum):
    """The treatment of a source with too many tokens."""

    cut = "cut"  # its beginning is decoded
    skip = "skip"  # its list is one empty hypothesis, which `select.on_guard` handles


class DecodePrecision(Enum):
    """Number format of decoding."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


@dataclass
class DecodeConfig:
    """Decoding of the training sources with the ensemble of teachers."""

    engine: DecodeEngine = setting(
        "ensemble: joint search; members: each member searches alone.", DecodeEngine.ensemble
    )
    members: int = setting(
        "Number of teachers that decode, counted from the first; 0: all.", 0, unit="teachers", at_least=0
    )
    teachers: dict[str, bool] = setting(
        "Names of the given teachers that decode, as NAME: true; empty: all.", factory=dict
    )
    method: DecodeMethod = setting("Beam search, sampling or diverse beam search.", DecodeMethod.beam)
    seed: int = setting(
        "sample: seed; the same seed and source always give the same samples.", same_as("seed"), at_least=0
    )
    temperature: float = setting(
        "sample: temperature; below 1 probable tokens are drawn more often, above 1 less often.", 1.0, above=0
    )
    sample_top: int = setting(
        "sample: number of most probable tokens to draw from; 0: the whole vocabulary.",
        0,
        unit="tokens",
        at_least=0,
        aliases=("top_k", "sampling_topk"),
    )
    top_p: float = setting(
        "sample, for teachers with engine ctranslate2 or endpoint: total probability of the tokens to draw from.",
        1.0,
        above=0,
        at_most=1,
        aliases=("sampling_topp", "nucleus"),
    )
    groups: int | None = setting(
        "diverse: groups of the beam, a divisor of its width; null: each hypothesis is a group.",
        None,
        unit="groups",
        at_least=1,
    )
    diversity: float = setting(
        "diverse: cost of a token for each candidate of an earlier group with the same token, in natural logarithms.",
        0.5,
        at_least=0,
    )
    beam: int = setting(
        "Width of the beam with which the teachers decode the training corpus.",
        unit="hypotheses",
        at_least=1,
        aliases=("beam_size", "num_beams"),
    )
    nbest: int = setting("Hypotheses kept per source.", unit="hypotheses", at_least=1, aliases=("n_best",))
    member_nbest: int | None = setting(
        "members: hypotheses from each member; null: as many as nbest.", None, unit="hypotheses", at_least=1
    )
    compute_type: str = setting(
        "members: CTranslate2's number format in the search; scores are computed in `precision`.", "float32"
    )
    precision: DecodePrecision = setting("Number format; fp16 and bf16 are for GPUs.", DecodePrecision.fp32)
    retry_precision: DecodePrecision | None = setting(
        "Precision for decoding a shard again after NaN, bf16 or fp32; null: NaN is an error.", None
    )
    max_pieces: int = setting(
        "Longest hypothesis; fixed, so that it does not depend on the other sources of a batch.",
        unit="tokens",
        at_least=1,
        aliases=("max_len", "max_length"),
    )
    max_source_pieces: int | None = setting(
        "Longest source; null: only the limit of the teachers' training, which always applies.",
        None,
        unit="tokens",
        at_least=1,
    )
    long_sources: LongSources = setting("Treatment of a source that is too long.", LongSources.cut)
    length_penalty: float = setting(
        "Exponent of the length by which scores are divided; 1: the mean per token.", aliases=("lenpen",)
    )
    disable_unk: bool = setting("Forbid unknown symbols and bytes that are not UTF-8 in hypotheses.", True)
    batch_tokens: int = setting(
        "Source tokens per batch, padding included.",
        unit="tokens",
        at_least=1,
        aliases=("batch_size",),
        transient=True,
    )
    workers: int = setting(
        "Tasks; worker i decodes the shards whose number is i modulo workers.",
        unit="tasks",
        at_least=1,
        aliases=("jobs",),
    )
    share: float = setting("Share of the shards to decode, counted from the first.", above=0, at_most=1, extent=True)
    guards: GuardsConfig = setting("Guards to count here; select applies them.", same_as("guards"), transient=True)


class Variant(Enum):
    """The target that the student learns for each source: the method, and its comparisons."""

    best = "best"  # the hypothesis with the highest score
    first = "first"  # the teacher's best: sequence-level distillation without selection
    gold = "gold"  # the human target
    threshold = "threshold"  # the best where its score is at least `threshold`; else `below` decides
    best_and_gold = "best_and_gold"  # both, as two pairs
    top = "top"  # the `top` best, in each epoch another one


@dataclass
class StudentsConfig:
    """Additional students besides the recipe's main student; a student that is off costs nothing.

    All share the main student's architecture and seeds and, except for the two fine-tuned students, its number of
    updates.
    """

    control: bool = setting("Train a student on the human translations.", True)
    control_selected: bool = setting(
        "If the recipe has source-only text (`use: source`), also train the student without that text, as a second "
        "control.",
        True,
    )
    first: bool = setting("Train a student on the ensemble's best hypotheses: distillation without selection.", False)
    one_teacher: bool = setting("Train a student on lists and distributions of the first teacher alone.", False)
    best_and_gold: bool = setting(
        "Train a student on both the selected and the human translations, as two pairs.", False
    )
    finetuned: bool = setting("Fine-tune the student on the human translations (group finetune).", False)
    in_domain: bool = setting("Fine-tune the student on the human translations of the corpora in `in_domain`.", False)


class OnGuard(Enum):
    """The treatment of a pair whose hypotheses are all refused by guards."""

    gold = "gold"  # the human target is learnt
    drop = "drop"  # the pair is left out, and counted
    keep = "keep"  # the best by score is learnt all the same


class Below(Enum):
    """The treatment of a pair whose best hypothesis scores below `threshold`, or has a TER above `max_ter`."""

    gold = "gold"  # the human target is learnt
    drop = "drop"  # the pair is left out, and counted


class SelectMetric(StrEnum):
    """Scores of a hypothesis to select by."""

    bleu = "bleu"  # sacreBLEU's sentence BLEU with effective order
    chrf = "chrf"
    mbr_bleu = "mbr_bleu"  # minimum Bayes risk: against the other hypotheses of the list, without the human target
    mbr_chrf = "mbr_chrf"
    comet = "comet"  # by the stage `score`: source, hypothesis and human target
    qe = "qe"  # by the stage `score`: a reference-free model; source and hypothesis
    mbr_comet = "mbr_comet"  # by the stage `score`: minimum Bayes risk with COMET
    backward = "backward"  # by the stage `score`: log-probability of the source, by a model of the opposite direction
    model = "model"  # the teachers' own score
    external = "external"  # scores made elsewhere
    mix = "mix"


# By the stage `score`.
SCORED = (SelectMetric.comet, SelectMetric.qe, SelectMetric.mbr_comet, SelectMetric.backward)


Smoothing = StrEnum("Smoothing", {"exp": "exp", "floor": "floor", "add-k": "add-k", "none": "none"})
Smoothing.__doc__ = """sacreBLEU's smoothing of sentence BLEU."""


@dataclass
class SelectConfig:
    """The choice of the hypotheses that the student learns."""

    metric: SelectMetric = setting("Score to select by.")
    smoothing: Smoothing = setting("bleu: sacreBLEU's smoothing.")
    tokenizer: str | None = setting(
        "bleu: sacreBLEU's tokeniser, such as 13a; null: the one for the target language.",
        aliases=("tokenize", "tokeniser"),
    )
    smooth_value: float | None = setting(
        "bleu: value of the smoothing floor (0.1) or add-k (1); null: sacreBLEU's.", None, at_least=0
    )
    lowercase: bool = setting("bleu, chrf: ignore case.", False)
    word_order: int = setting("chrf: longest word n-gram; 2 makes it chrF++.", 0, at_least=0)
    mix: dict[str, float] = setting("mix: weight of each metric, on its own scale.", factory=dict)
    scores: str | None = setting(
        "external: path of a shard's scores, one number per line of the n-best list, with `{shard}` in it and, where "
        "there are several pairs, `{source}` and `{target}`.",
        None,
        path=True,
        transient=True,
    )
    feature: str | None = setting(
        "external: feature of the n-best lists to use as the score, instead of `scores`.", None
    )
    variant: Variant = setting("The target that is learnt for each source.", Variant.best)
    top: int = setting(
        "top: number of best hypotheses per source; epoch k teaches the k-th, then they repeat in turn.",
        4,
        unit="hypotheses",
        at_least=1,
    )
    threshold: float = setting("threshold: smallest score of a hypothesis, in units of the metric.", 0.0)
    max_ter: float | None = setting(
        "Largest TER of a learnt hypothesis against the human target, 1 for as many edits as the target has words; "
        "null: no limit.",
        None,
        at_least=0,
    )
    below: Below = setting("threshold, max_ter: treatment of a pair whose hypothesis misses the bound.", Below.gold)
    on_guard: OnGuard = setting("Treatment of a pair if guards refuse all hypotheses.", OnGuard.gold)
    guards: GuardsConfig = setting(
        "A hypothesis that a guard refuses is chosen only if all are refused.", same_as("guards")
    )
    suspects: int = setting(
        "Pairs per task and reason listed in suspects.tsv.zst, with the column `disagreement` for every pair; 0: "
        "neither.",
        0,
        unit="pairs",
        at_least=0,
    )
    backward: BackwardDropConfig = setting(
        "Pairs to leave out by the score of a backward model (stages backward and drop).",
        factory=BackwardDropConfig,
        transient=True,
    )


@dataclass
class ScorerConfig:
    """A COMET model of the stage `score`."""

    model: str | None = setting(
        "Folder with hparams.yaml and checkpoints/model.ckpt, identified by its content, or a name to download.",
        None,
        transient=True,
    )
    batch: int = setting(
        "Segments per batch.", 16, unit="segments", at_least=1, aliases=("batch_size",), transient=True
    )


@dataclass
class ScoreConfig:
    """Scores of n-best lists, or of the pairs of a corpus, by neural models; computed where selection needs them."""

    select_metric: SelectMetric = setting(
        "Metric of selection, for which scores are computed.", same_as("select.metric")
    )
    select_mix: dict[str, float] = setting("Metrics that selection mixes.", same_as("select.mix"))
    metrics: dict[str, bool] = setting(
        "Scores to compute even if selection does not need them: comet, qe, mbr_comet, backward.", factory=dict
    )
    comet: ScorerConfig = setting("Model of comet and mbr_comet, which reads a reference.", factory=ScorerConfig)
    qe: ScorerConfig = setting("Model of qe, which reads no reference.", factory=ScorerConfig)
    backward: BackwardModelConfig = setting("Model of backward.", factory=BackwardModelConfig)
    drop: float = setting(
        "Share of pairs that a later stage leaves out by their score `backward`, which is computed if it is above 0; "
        "set in the chain.",
        0.0,
        at_least=0,
        below=1,
    )
    workers: int = setting(
        "Tasks that score the pairs of a corpus; lists are scored by as many tasks as decoded them.",
        8,
        unit="tasks",
        at_least=1,
    )
