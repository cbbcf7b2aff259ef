"""Settings of evaluation and deployment: translation of test sets, scores, speed, export, release and report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from kd.recipe.schema.corpora import SourceConfig
from kd.recipe.schema.distillation import GuardsConfig
from kd.recipe.schema.marks import same_as, setting


class HeldOut(Enum):
    """The held-out sets to use."""

    test = "test"  # those of the final scores
    dev = "dev"  # those by which an architecture or a setting is chosen


@dataclass
class RobustnessConfig:
    """The robustness suite: inputs like those of users, made from test sentences, which every system translates."""

    enabled: bool = setting("Translate the suite with every system of the run, and count failures.", False)
    sentences: int = setting(
        "Test sentences to make variants from, about 17 inputs each.", 10, unit="sentences", at_least=1
    )
    seed: int = setting("Seed of the choice of sentences and of the spans inserted in them.", 1, at_least=0)


@dataclass
class TranslateConfig:
    """Translation of the held-out sets by every system."""

    set: HeldOut = setting("Held-out sets to translate.", HeldOut.test)
    beam: int = setting(
        "Width of the beam with which students and teachers translate the held-out sets.",
        unit="hypotheses",
        at_least=1,
        aliases=("beam_size",),
    )
    max_pieces: int = setting("Longest translation.", unit="tokens", at_least=1)
    batch_tokens: int = setting("Source tokens per batch, padding included.", unit="tokens", at_least=1, transient=True)
    ensembles: dict[str, bool] = setting(
        "Trainings whose members also translate as an ensemble, besides each member alone.",
        same_as("evaluate.ensembles"),
        transient=True,
    )
    given: dict[str, str] = setting("Outputs of systems from elsewhere.", same_as("evaluate.given"), transient=True)
    root: str | None = setting(
        "Folder that relative paths of `given` start from.", same_as("evaluate.root"), transient=True
    )
    robustness: RobustnessConfig = setting(
        "Robustness suite to translate besides the test sets.", same_as("evaluate.robustness")
    )


@dataclass
class SpeedConfig:
    """Measuring of speed: one system after the other, alone on the machine."""

    set: HeldOut = setting("Held-out sets to translate.", HeldOut.test)
    sentences: int = setting("Number of sentences, counted from the first of the set.", unit="sentences", at_least=1)
    repeats: int = setting("Measurements per system; the median is reported.", at_least=1)
    latency_sentences: int = setting("Sentences translated one by one.", unit="sentences", at_least=1)
    all_cores: bool = setting("Measure on all cores as well as on one.")
    batch_tokens: int = setting("Source tokens per batch.", unit="tokens", at_least=1)
    beam: int = setting("Width of the beam while speed is measured.", unit="hypotheses", at_least=1)
    max_pieces: int = setting("Longest translation.", unit="tokens", at_least=1)
    ensembles: dict[str, bool] = setting("Trainings to measure as ensembles as well.", same_as("evaluate.ensembles"))
    once_a_shape: bool = setting(
        "Measure only the first of several exports of the same shape: seed and data do not change the speed.", False
    )


class References(StrEnum):
    """The way to combine a segment's COMET scores if there are several references."""

    mean = "mean"
    max = "max"
    first = "first"


@dataclass
class CometConfig:
    """COMET, where `evaluate.metrics.comet` is on."""

    model: str | None = setting(
        "Folder with hparams.yaml and checkpoints/model.ckpt, identified by its content, or a name to download.",
        None,
        transient=True,
    )
    references: References = setting("How scores with each of several references are combined.", References.mean)
    batch: int = setting("Segments per batch.", 16, unit="segments", at_least=1, transient=True)
    cache: str | None = setting("Folder of segments' scores; null: the user's cache.", None, path=True, transient=True)


@dataclass
class EvaluateConfig:
    """Scores of every system on the held-out sets."""

    set: HeldOut = setting("Held-out sets to score.", HeldOut.test)
    metrics: dict[str, bool] = setting("Metrics by name: bleu, chrf, chrf++, ter (sacreBLEU's), comet.", factory=dict)
    tokenize: str | None = setting(
        "BLEU's tokeniser by sacreBLEU's name; null: the one for the target language.", None, aliases=("tokenizer",)
    )
    comet: CometConfig = setting("COMET.", factory=CometConfig)
    ensembles: dict[str, bool] = setting(
        "Trainings whose members also translate as an ensemble, besides each member alone.", factory=dict
    )
    given: dict[str, str] = setting(
        "Outputs of systems from elsewhere, by the name in the tables: a file with a line for each segment of the test "
        "sets; `{source}` and `{target}` stand for the language codes.",
        factory=dict,
        transient=True,
    )
    root: str | None = setting(
        "Folder that relative paths of `given` start from; null: the working directory.",
        None,
        path=True,
        transient=True,
    )
    main_set: str | None = setting("Main test set, the subject of the verdict; null: the first of the recipe.", None)
    baseline: str | None = setting(
        "System that every other is compared with; of several seeds, the first member; null: no comparison."
    )
    further_baselines: dict[str, bool] = setting(
        "Additional systems to compare with, if the recipe has them.", factory=dict
    )
    pairs: dict[str, dict[str, bool]] = setting(
        "Trainings compared seed by seed (member k with member k), if the recipe has both.",
        factory=dict,
        aliases=("compare_seeds",),
    )
    bootstrap: int = setting(
        "Resamplings of the paired bootstrap (Koehn, 2004); 0: no intervals, no significance.",
        unit="resamplings",
        at_least=0,
        aliases=("resamples",),
    )
    seed: int = setting("Seed of the bootstrap.", at_least=0)
    guards: GuardsConfig = setting("Guards to count in every system's output.", same_as("guards"))
    # What is translated is a setting of `translate`; here it only counts what was.
    robustness: RobustnessConfig = setting("The robustness suite.", factory=RobustnessConfig, transient=True)
    worst: int = setting(
        "Worst segments to list per system: those furthest below the baseline, or the last of "
        "evaluate.further_baselines; 0: none.",
        unit="segments",
        at_least=0,
    )
    translate: TranslateConfig = setting("Translation of the held-out sets.", factory=TranslateConfig)
    speed: SpeedConfig = setting("Measuring of speed.", factory=SpeedConfig)


@dataclass
class ExportConfig:
    """The form in which a student is deployed."""

    formats: dict[str, bool] = setting(
        "CTranslate2's number formats (float32, int8 …), and packages: huggingface, argos, marian, onnx, onnx_int8.",
        factory=dict,
        aliases=("quantization", "compute_type"),
    )
    normalise: bool = setting(
        "Add the normalisation of training text to the exported sentencepiece models, for runtimes without one.", True
    )
    checkpoint: str = setting(
        "averaged: the final model; last: the last checkpoint; or the number of updates of a kept checkpoint.",
        "averaged",
    )
    compare: int = setting(
        "Dev sentences whose translations are compared with fairseq's before the export is published; 0: none.",
        200,
        unit="sentences",
        at_least=0,
    )
    beam: int = setting("Width of the beam when exports are compared with fairseq.", 4, unit="hypotheses", at_least=1)
    max_pieces: int = setting("Longest translation in that comparison.", 256, unit="tokens", at_least=1)
    least_agreement: float = setting(
        "Share of sentences that float32 and huggingface must translate as fairseq does.", 0.9, at_least=0, at_most=1
    )


@dataclass
class ReleaseConfig:
    """Folders for distribution, each with a model card."""

    systems: dict[str, bool] = setting(
        "Systems to release with fairseq's weights, besides every export; names without a system are ignored.",
        factory=dict,
    )
    ensembles: dict[str, bool] = setting("Trainings that are released as ensembles.", same_as("evaluate.ensembles"))
    title: str | None = setting("Title of the cards; null: languages and name.", None)
    licence: str | None = setting(
        "SPDX identifier of the models' licence; null: the card states that none was chosen.", None
    )
    text: str | None = setting("Markdown that the card opens with: purpose of the model, contact.", None)
    sources: dict[str, SourceConfig] = setting("Corpora whose licences the cards state.", same_as("corpus.sources"))


class LeadMetric(StrEnum):
    """The leading metric of a verdict."""

    auto = "auto"  # COMET, else chrF, else BLEU: the one that agrees best with people among those that were scored
    comet = "comet"
    chrf = "chrf"
    bleu = "bleu"
    ter = "ter"


@dataclass
class ReportConfig:
    """The page of results."""

    title: str = setting("Title of the page.")
    metric: LeadMetric = setting("Leading metric of the verdict; auto: COMET, else chrF, else BLEU.", LeadMetric.auto)
    examples: int = setting(
        "Segments shown with every system's output; the same number of segments furthest behind is shown per system.",
        unit="segments",
        at_least=0,
    )
    segments: int = setting(
        "Test segments per language pair that can be searched, filtered and sorted on the page.",
        1000,
        unit="segments",
        at_least=0,
    )
