"""Records of the systems compared: their scores, sizes and speeds, and which of them the verdict is about.

A value that nobody measured is None, and the views leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kd.models.systems import System, SystemKind


@dataclass(frozen=True)
class MetricScore:
    """A score of one system on the test set."""

    metric: str  # sacreBLEU's name: BLEU, chrF2, TER
    value: float  # unrounded
    signature: str
    interval: tuple[float, float] | None = None  # 95 %, of bootstrap resampling
    p_value: float | None = None  # of the difference from the row of the report's baseline; None there

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better; TER counts errors."""
        return self.metric != "TER"


@dataclass(frozen=True)
class Speed:
    """What using a system takes, beside its main rate; None: not measured."""

    tokens_per_second: float | None = None  # output pieces, on one thread
    cores: int | None = None  # all that the machine has
    sentences_per_second_all_cores: float | None = None
    latency_ms: float | None = None  # of a sentence alone, on one thread: the median
    latency_p99_ms: float | None = None
    load_seconds: float | None = None
    memory_megabytes: float | None = None  # of model and work at its peak, libraries not counted
    gpu_megabytes: float | None = None


@dataclass(frozen=True)
class SystemRow:
    """One system in the table of results."""

    system: System
    scores: list[MetricScore] = field(default_factory=list)
    pair: str = ""  # language pair whose test set the scores are of; shown where there are several
    parameters: int | None = None  # of all members together
    megabytes: float | None = None  # of the model on disk, 10^6 bytes
    sentences_per_second: float | None = None
    training_updates: int | None = None  # a member
    training_seconds: float | None = None  # of all members together
    speed: Speed = field(default_factory=Speed)

    @property
    def name(self) -> str:
        """The system's name for people."""
        return self.system.title

    @property
    def kind(self) -> SystemKind:
        """How it is shown."""
        return self.system.kind

    def score(self, metric: str) -> MetricScore | None:
        """The score of that name, if there is one."""
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True)
class TestSet:
    """One of several test sets of a language pair, by itself."""

    __test__ = False  # pytest takes it for tests

    name: str
    segments: int
    leakage: str  # the guard's verdict on this set: clean, removed 12, OFF, not looked for
    scores: dict[str, list[MetricScore]] = field(default_factory=dict)  # by system
    pair: str = ""


@dataclass(frozen=True)
class Comparison:
    """A significance test between two systems other than the one against the report's baseline."""

    system: str
    other: str
    metric: str
    p_value: float
    pair: str = ""


@dataclass(frozen=True)
class PairedScore:
    """A system's score beside that of the system of the same seed that it is compared with."""

    of: str  # training that the system is a member of: student
    against: str  # of the other: control
    system: str  # student 2, or student where there is one seed
    other: str
    metric: str
    value: float
    other_value: float
    p_value: float | None = None  # of the difference; None: not tested
    pair: str = ""

    @property
    def gain(self) -> float:
        """Positive where the system is the better one."""
        return (self.value - self.other_value) * (-1 if self.metric == "TER" else 1)


@dataclass(frozen=True)
class VerdictRoles:
    """Which rows the verdict is about, by name; an empty name: there is none."""

    student: str = ""
    control: str = ""
    teacher: str = ""  # what was distilled: the ensemble, or the only teacher
    export: str = ""  # the form that is deployed
    metric: str = "BLEU"
    lessons: str = ""  # what the student learned from its teachers, in sentences
    bilingual: str = ""  # of a student for several language pairs: what has its architecture and a pair to itself
