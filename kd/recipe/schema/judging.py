"""Settings of judging and deploying: translation of test sets, scores, speed, export, report.

What is measured of every system alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import II, MISSING

from kd.recipe.schema.corpora import SourceConfig
from kd.recipe.schema.distillation import GuardsConfig
from kd.recipe.schema.marks import TRANSIENT


class HeldOut(Enum):
    """Which held-out sets are worked on."""

    test = "test"  # those of the final scores
    dev = "dev"  # those that something is chosen by: an architecture, a setting


@dataclass
class TranslateConfig:
    """Translation of the held-out sets by every system."""

    set: HeldOut = HeldOut.test
    beam: int = MISSING
    max_pieces: int = MISSING
    batch_tokens: int = field(default=MISSING, metadata=TRANSIENT)
    # Labels of trainings whose members translate together as well, beside each alone.
    ensembles: dict[str, bool] = field(default=II("evaluate.ensembles"), metadata=TRANSIENT)
    given: dict[str, str] = field(default=II("evaluate.given"), metadata=TRANSIENT)
    root: str | None = field(default=II("evaluate.root"), metadata=TRANSIENT)


@dataclass
class SpeedConfig:
    """Measuring of speed: one system after the other, alone on the machine."""

    set: HeldOut = HeldOut.test
    sentences: int = MISSING  # of the set, the first ones
    repeats: int = MISSING  # the median counts
    latency_sentences: int = MISSING  # translated one after the other, each alone
    all_cores: bool = MISSING  # whether to measure with all cores as well as with one
    batch_tokens: int = MISSING  # source pieces a batch
    beam: int = MISSING
    max_pieces: int = MISSING
    ensembles: dict[str, bool] = field(default=II("evaluate.ensembles"))
    # Of exports whose models differ by seed and data alone, only the first is measured: speed goes by the shape.
    once_a_shape: bool = False


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

    set: HeldOut = HeldOut.test  # of the translations that it reads, and its own
    metrics: dict[str, bool] = field(default_factory=dict)  # bleu, chrf, chrf++, ter (sacreBLEU's), comet
    tokenize: str | None = None  # of BLEU, by sacreBLEU's name; null: what it takes for the target language
    comet: CometConfig = field(default_factory=CometConfig)
    ensembles: dict[str, bool] = field(default_factory=dict)
    # Systems from elsewhere (OPUS-MT, a commercial one …) by the name that the tables call them: a file with a line for
    # each segment of the test sets, as `split` wrote them. `{source}` and `{target}` stand for the language codes.
    given: dict[str, str] = field(default_factory=dict, metadata=TRANSIENT)
    root: str | None = field(default=None, metadata=TRANSIENT)  # folder that their relative paths start from
    # Of several test sets the one that stands first and that the verdict is of; null: the first of the recipe.
    main_set: str | None = None
    # System that every other is compared with; of a training of several seeds, its first member. null: no comparison.
    baseline: str | None = MISSING
    further_baselines: dict[str, bool] = field(default_factory=dict)  # to compare with as well, where there are such
    # Training -> those that it is compared with seed by seed (member k with member k), where a recipe has both.
    pairs: dict[str, dict[str, bool]] = field(default_factory=dict)
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
    # averaged: the model that the training ends in | last | the number of updates of a checkpoint that was kept.
    checkpoint: str = "averaged"
    compare: int = 200  # dev sentences whose translations are compared with fairseq's before it is published; 0: none
    beam: int = 4  # of that comparison
    max_pieces: int = 256
    least_agreement: float = 0.9  # share of sentences that float32 must translate as fairseq does


@dataclass
class ReleaseConfig:
    """The folders that are given away, each with a model card."""

    # Systems that get a folder with fairseq's weights, beside every export; names that no system has are passed over.
    systems: dict[str, bool] = field(default_factory=dict)
    ensembles: dict[str, bool] = field(default=II("evaluate.ensembles"))
    title: str | None = None  # of the cards; null: languages and name
    licence: str | None = None  # SPDX identifier of the models; null: the card says that none was chosen
    text: str | None = None  # Markdown that the card opens with: what the model is for, who to ask
    # Whose licences the card states, whatever the corpora said when they were read.
    sources: dict[str, SourceConfig] = field(default=II("corpus.sources"))


@dataclass
class ReportConfig:
    """The page."""

    title: str = MISSING
    examples: int = MISSING  # segments shown with the output of every system, and of each system those furthest behind
