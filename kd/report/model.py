"""What a report shows, as plain records: the page and the terminal's table are two views of one `ReportData`.

It is written as JSON beside the page, so that programs read the same unrounded numbers; a part that a run does not have
stays empty, and the views leave it out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kd.report.records import plain, record

FORMAT = 1
"""Of the JSON; raised when what it says changes its meaning, not when something is added."""


class SystemKind(Enum):
    """What a system is in the experiment."""

    teacher = "teacher"  # one member
    ensemble = "ensemble"  # all members together
    student = "student"  # trained on what was selected
    control = "control"  # the student's architecture, trained on gold
    export = "export"  # a student in the form in which it is deployed
    public = "public"  # somebody else's


@dataclass(frozen=True)
class MetricScore:
    """A score of one system on the test set."""

    metric: str  # sacreBLEU's name: BLEU, chrF2, TER
    value: float  # unrounded
    signature: str
    interval: tuple[float, float] | None = None  # 95 %, of bootstrap resampling
    p_value: float | None = None  # of no difference from the row of the report's baseline; None there

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better; TER counts errors."""
        return self.metric != "TER"


@dataclass(frozen=True)
class SystemRow:
    """One system in the table of results."""

    name: str
    kind: SystemKind
    scores: list[MetricScore] = field(default_factory=list)
    pair: str = ""  # language pair whose test set the scores are of; shown where there are several
    exported_from: str = ""  # of an export: the name of the system's row
    parameters: int | None = None  # of all members together
    megabytes: float | None = None  # of the model on disk, 10^6 bytes
    sentences_per_second: float | None = None
    training_updates: int | None = None  # a member
    training_seconds: float | None = None  # of all members together

    def score(self, metric: str) -> MetricScore | None:
        """The score of that name, if there is one."""
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True)
class Comparison:
    """A significance test between two systems other than the one against the report's baseline."""

    system: str
    other: str
    metric: str
    p_value: float
    pair: str = ""


@dataclass(frozen=True)
class VerdictRoles:
    """Which rows the verdict is about, by name; an empty name: there is none."""

    student: str = ""
    control: str = ""
    teacher: str = ""  # what was distilled: the ensemble, or the only teacher
    export: str = ""  # the form that is deployed
    metric: str = "BLEU"


@dataclass(frozen=True)
class CurvePoint:
    """A validation during training."""

    update: int
    dev_loss: float | None = None  # in bits a token where the training says no other
    dev_bleu: float | None = None


@dataclass(frozen=True)
class Curve:
    """The validations of one training."""

    name: str
    kind: SystemKind
    points: list[CurvePoint] = field(default_factory=list)


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: `counts[i]` values lie from `edges[i]` to `edges[i + 1]`."""

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class ChangedPair:
    """A list where selection chose another hypothesis than the teacher's best."""

    source: str
    gold: str
    first: str  # the teacher's best
    selected: str
    rank: int  # of the selected one, from 0
    score_first: float
    score_selected: float


@dataclass(frozen=True)
class SideOfSelection:
    """The words of one side of what was selected from: gold, the teacher's best, or what was selected."""

    name: str
    words: int
    words_per_pair: float
    types_per_window: float | None = None  # distinct words in 1,000; None where there are fewer


@dataclass(frozen=True)
class Selection:
    """What choosing from the n-best lists changed."""

    lists: int  # of which a hypothesis was chosen
    changed: int  # lists of which another than the first was chosen
    metric: str  # as recipes name it: bleu, chrf
    signature: str
    mean_first: float  # sentence score of the teacher's best, mean over lists
    mean_selected: float  # of the selected one
    name: str = ""  # language pair, where there are several
    variant: str = "best"  # as recipes name it: best, first, gold, threshold, best_and_gold
    ranks: list[int] = field(default_factory=list)  # how often the hypothesis of rank 0, 1, … was chosen
    gains: Histogram | None = None  # score of the selected minus score of the first, where they differ
    scores: Histogram | None = None  # of the selected
    first_scores: Histogram | None = None  # of the teacher's best, between the same edges
    exact: int = 0  # selected hypotheses that are the human translation, letter by letter
    gold: int = 0  # further pairs whose human translation is learnt instead of a hypothesis
    dropped: int = 0  # further pairs that are left out
    set_aside: dict[str, int] = field(default_factory=dict)  # guard -> preferred hypotheses that tripped it
    no_way_out: dict[str, int] = field(default_factory=dict)  # guard -> lists all of whose hypotheses trip one
    sides: list[SideOfSelection] = field(default_factory=list)
    examples: list[ChangedPair] = field(default_factory=list)  # where the score rose most


@dataclass(frozen=True)
class GuardCounts:
    """How often hypotheses tripped guards, by guard; what did not happen is not there."""

    lists: int = 0  # decoded
    best: dict[str, int] = field(default_factory=dict)  # lists whose best hypothesis trips it
    set_aside: dict[str, int] = field(default_factory=dict)  # pairs for which another was chosen instead
    no_way_out: dict[str, int] = field(default_factory=dict)  # pairs for which all hypotheses trip one
    on_guard: str = ""  # what happened then: gold | drop | keep
    name: str = ""  # language pair, where there are several

    @property
    def names(self) -> list[str]:
        """Every guard that was tripped."""
        return sorted({name for counts in (self.best, self.set_aside, self.no_way_out) for name in counts})


@dataclass(frozen=True)
class Example:
    """A test segment in every system's words."""

    source: str
    reference: str
    outputs: dict[str, str]  # by system
    pair: str = ""


@dataclass(frozen=True)
class FlowStep:
    """What a stage let through of the corpus."""

    stage: str
    entered: int  # sentence pairs
    left: int
    dropped: dict[str, int] = field(default_factory=dict)  # by reason


@dataclass(frozen=True)
class LeakedSet:
    """How many training pairs match a held-out set, over all training corpora; each pair counts once a set."""

    name: str  # en-de test
    segments: int
    both: int = 0  # hold both sides of a segment
    source: int = 0  # its source alone
    target: int = 0  # its target alone


@dataclass(frozen=True)
class LeakedCorpus:
    """What the leakage guard did to the training corpus of a language pair."""

    pair: str
    mode: str  # remove | fail | off
    removed: int  # training pairs


@dataclass(frozen=True)
class Leakage:
    """Whether what the systems are tested on stood in what they were trained on."""

    corpora: list[LeakedCorpus] = field(default_factory=list)
    sets: list[LeakedSet] = field(default_factory=list)
    one_sided_words: int = 0  # a sentence that alone is a match has more
    warnings: dict[str, str] = field(default_factory=dict)  # training corpus that is a test set by its name -> which
    # Selected teacher outputs that are a test reference of another source than theirs; None: not looked for.
    reproduced_outputs: int | None = None
    reproduced_references: int | None = None

    @property
    def off(self) -> list[str]:
        """The language pairs whose training corpora were not looked at."""
        return [corpus.pair for corpus in self.corpora if corpus.mode == "off"]

    @property
    def verdict(self) -> str:
        """In a few words: OFF, clean, removed 12."""
        removed = sum(corpus.removed for corpus in self.corpora)
        if self.off:
            return "OFF"
        return f"removed {removed:,}" if removed else "clean"


@dataclass(frozen=True)
class StageCost:
    """What a stage took."""

    stage: str
    seconds: float  # of all its tasks together
    tasks: int = 1
    bytes: int | None = None  # its artifacts on disk


@dataclass(frozen=True)
class Provenance:
    """What one needs to do the same again."""

    config: str = ""  # the recipe as it was run, YAML
    versions: dict[str, str] = field(default_factory=dict)  # by package
    fingerprints: dict[str, str] = field(default_factory=dict)  # by stage and task
    seeds: dict[str, int] = field(default_factory=dict)  # by what is seeded
    machine: dict[str, str] = field(default_factory=dict)  # processor, memory, threads …


@dataclass(frozen=True)
class ReportData:
    """Everything a page shows."""

    title: str
    date: str  # ISO 8601
    systems: list[SystemRow] = field(default_factory=list)
    verdict: VerdictRoles = field(default_factory=VerdictRoles)
    baseline: str = ""  # the row that the p-values of the others are against
    comparisons: list[Comparison] = field(default_factory=list)
    test_set: str = ""  # in words: what it is and how many segments it has
    speed_note: str = ""  # in words: how speed was measured
    curves: list[Curve] = field(default_factory=list)
    selections: list[Selection] = field(default_factory=list)
    guards: list[GuardCounts] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    flow: list[FlowStep] = field(default_factory=list)
    leakage: Leakage | None = None
    costs: list[StageCost] = field(default_factory=list)
    provenance: Provenance = field(default_factory=Provenance)

    def metrics(self) -> list[str]:
        """The names of the metrics that any system has a score of, in the order of their first appearance."""
        return list(dict.fromkeys(score.metric for system in self.systems for score in system.scores))

    def signatures(self) -> dict[str, str]:
        """The signature of each metric; several are joined where systems were scored differently."""
        found: dict[str, list[str]] = {}
        for system in self.systems:
            for score in system.scores:
                if score.signature not in found.setdefault(score.metric, []):
                    found[score.metric].append(score.signature)
        return {metric: " / ".join(signatures) for metric, signatures in found.items()}

    def system(self, name: str, pair: str = "") -> SystemRow | None:
        """The row of that name and pair, if there is one."""
        return next((row for row in self.systems if row.name == name and row.pair == pair), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, unrounded; what is no finite number becomes null."""
        return {"format": FORMAT, **plain(self)}

    def to_json(self) -> str:
        """The same as text, readable."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ReportData:
        """What `to_dict` gave. Raises ValueError for another format, unknown keys or values of the wrong type."""
        if values.get("format") != FORMAT:
            raise ValueError(f"report of format {values.get('format')!r}, this version reads {FORMAT}")
        return record(ReportData, {key: value for key, value in values.items() if key != "format"}, "report")
