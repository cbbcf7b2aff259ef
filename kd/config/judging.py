"""Settings of judging and deploying: translation of test sets, scores, speed, export, report.

What is measured of every system alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import II, MISSING

from kd.config.distillation import GuardsConfig
from kd.config.marks import TRANSIENT


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
    examples: int = MISSING  # segments shown with the output of every system, and of each system those furthest behind
