"""The evaluation card of a distillation: one JSON file with the comparisons that were made, and the costs.

It has the facts that a reader needs to judge a claim about a student: systems, seeds, the control, significance tests,
costs, energy, leakage and weaknesses. A survey of the field (arXiv 2602.15845) finds that such a standard record is
missing. Its JSON Schema is docs/evaluation-card.schema.json; `python -m kd.report.evaluation_card` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from statistics import fmean, stdev
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kd.base.records import text
from kd.metrics.robustness import Checked
from kd.metrics.segments import Weaknesses
from kd.report.comparing import difference
from kd.report.corpora import Leakage
from kd.report.costs import StageCost
from kd.report.data import ReportData
from kd.report.systems import MetricScore, Speed, SystemRow
from kd.report.training import Curve

FORMAT = 1
"""Version of the card. Raise it when the meaning of a key changes, not when a key is added."""

Pair = Annotated[str, Meta(description="Language pair, such as en-de; empty where the run has only one.")]
Name = Annotated[str, Meta(description="Name of a system, as in `systems`.")]
PValue = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Score:
    """A score on the test set, unrounded."""

    metric: str
    value: float
    signature: Annotated[str, Meta(description="sacreBLEU's or COMET's signature, which makes the score reproducible.")]
    interval: Annotated[
        list[float] | None, Meta(description="Both ends of the 95 % confidence interval, by bootstrap resampling.")
    ]


@dataclass(frozen=True)
class CardSystem:
    """A system that was scored."""

    name: Name
    role: Annotated[str, Meta(description="teacher, student, control or external.")]
    training: Annotated[str, Meta(description="Label of the training in the recipe.")]
    seed: Annotated[str, Meta(description="Member of the training; systems with equal numbers share a seed.")]
    ensemble: bool
    number_format: Annotated[
        str | None, Meta(description="Format of an export, such as int8; null for the trained model.")
    ]
    pair: Pair
    parameters: int | None
    megabytes: Annotated[float | None, Meta(description="On disk, 10^6 bytes.")]
    updates: int | None
    scores: list[Score]
    sentences_per_second: Annotated[float | None, Meta(description="On one core.")]
    speed: Speed


@dataclass(frozen=True)
class Control:
    """The student against the same model trained on human translations, over all seeds of both."""

    student: Name
    control: Name
    pair: Pair
    metric: str
    seeds: Annotated[int, Meta(ge=1, description="Number of seeds; with 1, the effect of the seed is unknown.")]
    gain: Annotated[float, Meta(description="Mean over seeds; positive: the student is better.")]
    standard_deviation: Annotated[
        float | None, Meta(description="Standard deviation of the gain over seeds (n - 1); null for one seed.")
    ]


@dataclass(frozen=True)
class Test:
    """A significance test of two systems on the same segments, two-sided."""

    __test__ = False  # no test class of pytest

    system: Name
    against: Name
    pair: Pair
    metric: str
    gain: Annotated[float, Meta(description="Positive: the first system is better.")]
    p_value: PValue
    method: Annotated[str, Meta(description="paired bootstrap (Koehn, 2004) or paired t-test.")]


@dataclass(frozen=True)
class Energy:
    """Measured energy of all stages together; never an estimate."""

    kwh: float | None
    kg_co2e: float | None
    tasks_without_meter: int


@dataclass(frozen=True)
class CardWeaknesses:
    """Counts of one system's test segments."""

    system: Name
    pair: Pair
    counts: Weaknesses


@dataclass(frozen=True)
class CardRobustness:
    """Failures of one system on the robustness suite."""

    system: Name
    pair: Pair
    checks: Annotated[
        dict[str, Checked],
        Meta(description="Inputs that failed each check: copying, case, one output, sound (docs/evaluation.md)."),
    ]
    kinds: Annotated[dict[str, Checked], Meta(description="Inputs that failed any check, by kind of input.")]


@dataclass(frozen=True)
class EvaluationCard:
    """The evaluation of a distilled translation model."""

    format: Annotated[int, Meta(ge=1)]
    title: str
    date: Annotated[str, Meta(description="ISO 8601.")]
    test_set: str
    leading_metric: str
    learned: Annotated[str, Meta(description="The student's sources: text, distributions, initial layers.")]
    systems: list[CardSystem]
    seeds: Annotated[dict[str, int], Meta(description="By stage.")]
    updates: Annotated[dict[str, int], Meta(description="By training.")]
    control: Annotated[list[Control], Meta(description="One per language pair and control; empty without a control.")]
    tests: list[Test]
    cost: list[StageCost]
    energy: Energy
    leakage: Leakage | None
    weaknesses: list[CardWeaknesses]
    robustness: Annotated[list[CardRobustness], Meta(description="Empty where no suite was translated.")]
    versions: Annotated[dict[str, str], Meta(description="By package.")]
    fingerprints: Annotated[dict[str, str], Meta(description="By stage and task.")]


def evaluation_card(data: ReportData) -> EvaluationCard:
    """Make the card of a report."""
    return EvaluationCard(
        format=FORMAT,
        title=data.title,
        date=data.date,
        test_set=data.test_set,
        leading_metric=data.verdict.metric,
        learned=data.verdict.lessons,
        systems=[_system(row) for row in data.systems],
        seeds=data.provenance.seeds,
        updates=dict(_updates(data.curves)),
        control=list(_control(data)),
        tests=list(_tests(data)),
        cost=data.costs,
        energy=Energy(
            _sum(cost.kwh for cost in data.costs),
            _sum(cost.kg_co2e for cost in data.costs),
            sum(cost.tasks if cost.kwh is None else cost.unmeasured for cost in data.costs),
        ),
        leakage=data.leakage,
        weaknesses=[
            CardWeaknesses(name, each.name, counts) for each in data.weaknesses for name, counts in each.systems.items()
        ],
        robustness=[
            CardRobustness(name, each.name, item.checks, item.kinds)
            for each in data.robustness
            for name, item in each.systems.items()
        ],
        versions=data.provenance.versions,
        fingerprints=data.provenance.fingerprints,
    )


def to_json(card: EvaluationCard) -> str:
    """Return the card as readable JSON."""
    return text(card)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the card."""
    found = msgspec.json.schema(EvaluationCard)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Evaluation card", **found}


def _system(row: SystemRow) -> CardSystem:
    return CardSystem(
        name=row.name,
        role=row.system.role.value,
        training=row.system.label,
        seed=row.system.seed,
        ensemble=row.system.ensemble,
        number_format=row.system.format,
        pair=row.pair,
        parameters=row.parameters,
        megabytes=row.megabytes,
        updates=row.training_updates,
        scores=[_score(score) for score in row.scores],
        sentences_per_second=row.sentences_per_second,
        speed=row.speed,
    )


def _score(score: MetricScore) -> Score:
    return Score(score.metric, score.value, score.signature, list(score.interval) if score.interval else None)


def _updates(curves: Iterable[Curve]) -> Iterator[tuple[str, int]]:
    for curve in curves:
        yield curve.name, curve.points[-1].update


def _control(data: ReportData) -> Iterator[Control]:
    """Yield the gain over each control for each language pair, in the leading metric."""
    metric = data.verdict.metric
    pairs = dict.fromkeys(row.pair for row in data.systems)
    for name, pair in product((data.verdict.control, data.verdict.control_selected), pairs):
        student, control = data.system(data.verdict.student, pair), data.system(name, pair)
        if student is None or control is None:
            continue
        labels = student.system.label, control.system.label
        gains = [s.gain for s in data.paired if (s.of, s.against, s.metric, s.pair) == (*labels, metric, pair)]
        apart = difference(data, student, control, metric)
        if not gains and apart is not None:
            gains = [apart.gain]
        if gains:
            spread = stdev(gains) if len(gains) > 1 else None
            yield Control(student.name, control.name, pair, metric, len(gains), fmean(gains), spread)


def _tests(data: ReportData) -> Iterator[Test]:
    """Yield every test once: against the baselines, and seed by seed."""
    found: dict[tuple[str, str, str, str], Test] = {}
    for each in data.comparisons:
        row, other = data.system(each.system, each.pair), data.system(each.other, each.pair)
        apart = difference(data, row, other, each.metric) if row and other else None
        if apart is not None:
            test = Test(each.system, each.other, each.pair, each.metric, apart.gain, each.p_value, _method(each.metric))
            found[test.system, test.against, test.pair, test.metric] = test
    for score in data.paired:
        if score.p_value is not None:
            test = Test(score.system, score.other, score.pair, score.metric, score.gain, score.p_value,
                        _method(score.metric))  # fmt: skip
            found[test.system, test.against, test.pair, test.metric] = test
    yield from found.values()


def _method(metric: str) -> str:
    return "paired t-test" if metric.startswith("COMET") else "paired bootstrap (Koehn, 2004)"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


if __name__ == "__main__":
    print(text(schema()), end="")
