"""Systems on the page: records of their scores, sizes and speeds, gathered from the stages evaluate and speed.

A value that was not measured is None, and the views leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd.base.records import record
from kd.models.systems import CONTROL_SELECTED, System, SystemKind, labelled
from kd.pipeline.model import Artifact

AUTO, LEADS = "auto", ("comet", "chrf", "bleu")  # how names of metrics begin, the first to lead first
DEPLOYED = "int8"  # the number format that is preferred among a student's exports


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
        """Whether a higher score is better; TER counts errors."""
        return self.metric != "TER"


@dataclass(frozen=True)
class Speed:
    """Speed and memory of a system, in addition to its sentences per second; None: not measured."""

    tokens_per_second: float | None = None  # output pieces, on one thread
    cores: int | None = None  # all that the machine has
    sentences_per_second_all_cores: float | None = None
    latency_ms: float | None = None  # of a sentence alone, on one thread: the median
    latency_p99_ms: float | None = None
    load_seconds: float | None = None
    memory_megabytes: float | None = None  # of model and work at its peak, libraries not counted
    gpu_megabytes: float | None = None
    others: float | None = None  # cores that other processes kept busy meanwhile, on average
    disturbed: bool = False  # by them, in every repetition


@dataclass(frozen=True)
class SystemRow:
    """One system in the table of results."""

    system: System
    scores: list[MetricScore] = field(default_factory=list)
    pair: str = ""  # language pair whose test set the scores are of; shown if there are several
    parameters: int | None = None  # of all members together
    megabytes: float | None = None  # of the model on disk, 10^6 bytes
    sentences_per_second: float | None = None
    training_updates: int | None = None  # a member
    training_seconds: float | None = None  # of all members together
    speed: Speed = field(default_factory=Speed)

    @property
    def name(self) -> str:
        """The display name."""
        return self.system.title

    @property
    def kind(self) -> SystemKind:
        """The kind of the system, which determines its presentation."""
        return self.system.kind

    def score(self, metric: str) -> MetricScore | None:
        """Return the score of that metric, if there is one."""
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True)
class TestSet:
    """The scores on one of several test sets of a language pair."""

    __test__ = False  # pytest takes it for tests

    name: str
    segments: int
    leakage: str  # the guard's verdict on this set: clean, removed 12, OFF, not looked for
    scores: dict[str, list[MetricScore]] = field(default_factory=dict)  # by system
    pair: str = ""


@dataclass(frozen=True)
class Comparison:
    """A significance test between two systems."""

    system: str
    other: str
    metric: str
    p_value: float
    pair: str = ""


@dataclass(frozen=True)
class PairedScore:
    """The scores of two systems of the same seed."""

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
        """The difference; positive if the first system is better."""
        return (self.value - self.other_value) * (-1 if self.metric == "TER" else 1)


@dataclass(frozen=True)
class VerdictRoles:
    """The titles of the systems in the verdict; empty if there is no such system."""

    student: str = ""
    control: str = ""
    teacher: str = ""  # the distilled one: the ensemble, or the only teacher
    export: str = ""  # the form that is deployed
    metric: str = "BLEU"
    lessons: str = ""  # what the student learned from its teachers, in sentences
    control_selected: str = ""  # of a student with source-only text: the same student without that text
    bilingual: str = ""  # beside a student for several language pairs: the student of one pair


# --- gathering --------------------------------------------------------------------------------------------------------


def systems_in(evaluation: Mapping[str, Any]) -> list[System]:
    """Return the systems of an evaluation, in its order."""
    return [record(System, values, "scores.systems") for values in evaluation["systems"]]


def titles_in(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the title of each system of an evaluation by its name."""
    return {system.name: system.title for system in systems_in(evaluation)}


def rows(
    evaluation: Mapping[str, Any], speeds: Mapping[str, Any], trainings: Iterable[Artifact], pair: str, shown: str
) -> list[SystemRow]:
    """Make the rows of one evaluation, in its order.

    Args:
        evaluation: Content of `scores.json`.
        speeds: The speed stage's record of each system, by name.
        trainings: Artifacts of all trainings of the run.
        pair: The evaluation's language pair.
        shown: The pair as shown in the row; empty if the run has only one pair.
    """
    main: list[dict[str, Any]] = next(iter(evaluation["significance"].values()), [])
    significance = {(item["system"], item["metric"]): item for item in main}
    known = [(labelled(artifact), artifact) for artifact in trainings if artifact.axis in (pair, None)]
    found = []
    for system in systems_in(evaluation):
        speed = speeds.get(system.name, {})
        members = [artifact for other, artifact in known if _is_model_of(other, system)]
        facts = [artifact.manifest["facts"] for artifact in members]
        scores = evaluation["scores"][system.name]
        found.append(
            SystemRow(
                system,
                [_score(score, significance.get((system.name, score["metric"]))) for score in scores],
                pair=shown,
                # 0 of a model whose number is not known: converted before, or behind a server.
                parameters=(sum(fact["parameters"] for fact in facts) or None) if facts else None,
                megabytes=speed.get("megabytes"),
                sentences_per_second=speed.get("sentences_per_second"),
                training_updates=facts[0]["updates"] if facts and not system.format else None,
                training_seconds=None if system.format else _training_seconds(members),
                speed=_speed(speed),
            )
        )
    return found


def _is_model_of(trained: System, system: System) -> bool:
    """Return whether a training made a system, or a member of it."""
    if not system.engine or trained.label != system.label:
        return False
    return system.ensemble or trained.member == system.member


def sets_apart(evaluation: Mapping[str, Any], pair: str) -> list[TestSet]:
    """Return the individual test sets of an evaluation, the main set first; empty if there is only one."""
    sets, titles = evaluation["sets"], titles_in(evaluation)
    if len(sets) < 2:
        return []
    return [
        TestSet(
            name=name,
            segments=found["segments"],
            leakage=str(found["leakage"]["verdict"]),
            scores={titles[name]: [_score(score, None) for score in s] for name, s in found["scores"].items()},
            pair=pair,
        )
        for name, found in sets.items()
    ]


def comparisons(evaluation: Mapping[str, Any], pair: str) -> list[Comparison]:
    """Return the tests of an evaluation against all its baselines."""
    titles = titles_in(evaluation)
    return [
        Comparison(titles[item["system"]], titles[baseline], item["metric"], item["p_value"], pair)
        for baseline, items in evaluation["significance"].items()
        for item in items
        if item["p_value"] is not None
    ]


def paired(evaluation: Mapping[str, Any], pair: str) -> list[PairedScore]:
    """Return the comparisons seed by seed on the main test set of an evaluation."""
    titles = titles_in(evaluation)
    return [
        PairedScore(**{**item, "system": titles[item["system"]], "other": titles[item["other"]]}, pair=pair)
        for item in evaluation["pairs"]
    ]


def lead_metric(metrics: Sequence[str], wanted: str = AUTO) -> str:
    """Return the verdict's leading metric, by its name in scores.

    Args:
        metrics: Names of the metrics for which systems have scores.
        wanted: Beginning of the name, in lower case; `auto`: the metric that agrees best with human judgement (Kocmi et
            al., 2021): COMET, else chrF, else BLEU.
    """
    for start in LEADS if wanted == AUTO else (wanted, *LEADS):
        for metric in metrics:
            if metric.lower().startswith(start):
                return metric
    return metrics[0] if metrics else "BLEU"


def verdict_roles(rows: Sequence[SystemRow], wanted: str = AUTO) -> VerdictRoles:
    """Choose the leading metric, the first student, its control, its deployed form, and the distilled teacher.

    A student for several language pairs precedes those for a single pair, the first of which is then the bilingual
    student. Of several exports of the student, the int8 export is deployed.
    """
    by_kind = {kind: [row.system for row in rows if row.kind is kind] for kind in SystemKind}
    students, controls = by_kind[SystemKind.student], by_kind[SystemKind.control]
    shared = [system for system in students if system.pair is None]
    single = [system for system in students if system.pair is not None]
    student = next(iter([*shared, *single]), None)
    exports = [system for system in by_kind[SystemKind.export] if system.trained == student]
    exports.sort(key=lambda system: system.format != DEPLOYED)
    return VerdictRoles(
        student=_title(student),
        control=_title(next(iter(each for each in controls if each.label != CONTROL_SELECTED), None)),
        control_selected=_title(next(iter(each for each in controls if each.label == CONTROL_SELECTED), None)),
        teacher=_title(next(iter([*by_kind[SystemKind.ensemble], *by_kind[SystemKind.teacher]]), None)),
        export=_title(next(iter(exports), None)),
        metric=lead_metric(list(dict.fromkeys(score.metric for row in rows for score in row.scores)), wanted),
        bilingual=_title(next(iter(single), None)) if shared else "",
    )


def _title(system: System | None) -> str:
    return system.title if system else ""


def _training_seconds(members: Sequence[Artifact]) -> float | None:
    """Add up the time of all members; None if one of them was trained elsewhere."""
    trained = [artifact.manifest["seconds"] for artifact in members if artifact.manifest["kind"] == "train"]
    return sum(trained) if trained and len(trained) == len(members) else None


def _speed(measured: Mapping[str, Any]) -> Speed:
    latency, everywhere = measured.get("latency_ms") or {}, measured.get("all_cores") or {}
    return Speed(
        tokens_per_second=measured.get("tokens_per_second"),
        cores=everywhere.get("cores"),
        sentences_per_second_all_cores=everywhere.get("sentences_per_second"),
        latency_ms=latency.get("median"),
        latency_p99_ms=latency.get("p99"),
        load_seconds=measured.get("load_seconds"),
        memory_megabytes=measured.get("memory_megabytes"),
        gpu_megabytes=measured.get("gpu_megabytes"),
        others=measured.get("others"),
        disturbed=bool(measured.get("disturbed") or everywhere.get("disturbed")),
    )


def _score(score: Mapping[str, Any], significance: Mapping[str, Any] | None) -> MetricScore:
    interval = significance["interval"] if significance else None
    return MetricScore(
        metric=score["metric"],
        value=score["value"],
        signature=score["signature"],
        interval=(interval[0], interval[1]) if interval else None,
        p_value=significance["p_value"] if significance else None,
    )
