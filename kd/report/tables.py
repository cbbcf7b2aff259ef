"""The page's tables beside that of results: test sets, speed, trainings, what goes wrong, and what each stage took.

As there, a column that has no value is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kd.base.text import amount, duration, size
from kd.metrics.segments import Behind
from kd.report import formatting as form
from kd.report.columns import Cell, Column
from kd.report.model import (
    Curve,
    CurvePoint,
    ReportData,
    StageCost,
    SystemRow,
    VerdictRoles,
    WeaknessesOfPair,
)
from kd.report.weaknesses import ROWS

# --- systems ---------------------------------------------------------------------------------------------------------


def set_columns(data: ReportData) -> list[Column]:
    """Scores of every system on each test set, where there are several; without a test of significance."""
    rows = [row for row in data.systems if any(row.name in each.scores for each in data.test_sets)]
    columns = [Column("System", [Cell(row.name, row.name) for row in rows], numeric=False)]
    for each in data.test_sets:
        of_pair = f"{each.pair} " if each.pair else ""
        for metric in data.metrics():
            values = [
                next((score.value for score in each.scores.get(row.name, []) if score.metric == metric), None)
                if row.pair == each.pair
                else None
                for row in rows
            ]
            cells = [Cell() if v is None else Cell(form.metric_score(metric, v), v) for v in values]
            explanation = f"{form.count(each.segments)} segments; leakage guard: {form.of_test_set(each.leakage)}"
            columns.append(Column(f"{of_pair}{each.name} {metric}", cells, explanation=explanation))
    return [column for column in columns if any(cell.text for cell in column.cells)]


def speed_columns(data: ReportData) -> list[Column]:
    """What using each system takes, beside the rates of the table of results."""
    rows = [row for row in data.systems if row.sentences_per_second]
    cores = next((row.speed.cores for row in rows if row.speed.cores), None)
    columns = [
        _figures("Sentences/s", rows, lambda row: row.sentences_per_second),
        _figures(f"Sentences/s, {cores} cores", rows, lambda row: row.speed.sentences_per_second_all_cores),
        _figures("Tokens/s", rows, lambda row: row.speed.tokens_per_second),
        _figures("Latency, ms", rows, lambda row: row.speed.latency_ms),
        _figures("99 % below, ms", rows, lambda row: row.speed.latency_p99_ms),
        _figures("Memory, MB", rows, lambda row: row.speed.memory_megabytes),
        _figures("GPU memory, MB", rows, lambda row: row.speed.gpu_megabytes),
        _figures("Loads in, s", rows, lambda row: row.speed.load_seconds),
        _figures("On disk, MB", rows, lambda row: row.megabytes),
    ]
    columns = [column for column in columns if any(cell.text for cell in column.cells)]
    several = len({row.pair for row in rows}) > 1
    names = [f"{row.name} {row.pair}" if several else row.name for row in rows]
    systems = Column("System", [Cell(name, name) for name in names], numeric=False)
    return [systems, *columns] if len(columns) > 2 else []  # rate and disk stand in the table of results


def _figures(heading: str, rows: Sequence[SystemRow], value: Callable[[SystemRow], float | None]) -> Column:
    values = [value(row) for row in rows]
    return Column(heading, [Cell() if each is None else Cell(amount(each), each) for each in values])


# --- trainings ------------------------------------------------------------------------------------------------------


def training_columns(curves: Sequence[Curve]) -> list[Column]:
    """How each training ended, and where it was best."""
    drawn = [curve for curve in curves if curve.points]
    last = [curve.points[-1] for curve in drawn]
    columns = [
        Column("Training", [Cell(curve.name) for curve in drawn], numeric=False),
        Column("Updates", [Cell(form.count(point.update)) for point in last]),
        Column("Best dev BLEU", [_best(curve.best_bleu, lambda point: point.dev_bleu, form.score) for curve in drawn]),
        Column(
            "Lowest dev loss",
            [_best(curve.best_loss, lambda point: point.dev_loss, "{:.3f}".format) for curve in drawn],
        ),
        Column("Target tokens", [Cell(form.count(round(p.target_tokens)) if p.target_tokens else "") for p in last]),
        Column("Time", [Cell(duration(point.seconds) if point.seconds else "") for point in last]),
        Column("Devices", [Cell(form.count(point.devices) if point.devices else "") for point in last]),
    ]
    return [column for column in columns if any(cell.text for cell in column.cells)]


def _best(point: CurvePoint | None, value: Callable[[CurvePoint], float | None], shown: Callable[[float], str]) -> Cell:
    found = value(point) if point else None
    return Cell() if point is None or found is None else Cell(shown(found), detail=f"at {form.count(point.update)}")


# --- weaknesses ------------------------------------------------------------------------------------------------------


def failings(weak: WeaknessesOfPair) -> list[Column]:
    """What goes wrong, a row each, one column a system; what could not be counted is left out."""
    rows = [(label, [shown(item) for item in weak.systems.values()]) for label, shown in ROWS]
    rows = [(label, cells) for label, cells in rows if any(cells)]
    first = Column("Segments that are", [Cell(label.strip()) for label, _ in rows], numeric=False)
    return [
        first,
        *(Column(name, [Cell(cells[number]) for _, cells in rows]) for number, name in enumerate(weak.systems)),
    ]


def by_length(weak: WeaknessesOfPair, metric: str) -> list[Column]:
    """Scores of the segments whose human translation has so many words; lengths that none has are left out."""
    systems = list(weak.systems.values())
    buckets = [number for number, bucket in enumerate(systems[0].buckets) if bucket.segments] if systems else []
    if not buckets or metric not in systems[0].buckets[buckets[0]].scores:
        return []
    here = [systems[0].buckets[number] for number in buckets]
    words = [f"{part.shortest}–{part.longest}" if part.longest else f"{part.shortest} and more" for part in here]
    return [
        Column("Words", [Cell(text) for text in words], numeric=False),
        Column("Segments", [Cell(form.count(part.segments)) for part in here]),
        *(
            Column(name, [Cell(_score(metric, item.buckets[number].scores.get(metric))) for number in buckets])
            for name, item in weak.systems.items()
        ),
    ]


def furthest_behind(weak: WeaknessesOfPair, roles: VerdictRoles) -> dict[str, list[Behind]]:
    """Segments by system, the student and its deployed form first."""
    found: dict[str, list[Behind]] = {}
    for item in weak.worst:
        found.setdefault(item.system.replace("-", " "), []).append(item)
    first = [name for name in (roles.student, roles.export) if name in found]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def _score(metric: str, value: float | None) -> str:
    return "" if value is None else form.metric_score(metric, value)


# --- costs -----------------------------------------------------------------------------------------------------------


def cost_columns(costs: Sequence[StageCost]) -> list[Column]:
    """One row a stage."""
    columns = [
        Column("Stage", [Cell(cost.stage) for cost in costs], numeric=False),
        _column("Tasks", costs, lambda cost: form.count(cost.tasks)),
        _column("Time, tasks together", costs, lambda cost: duration(cost.seconds)),
        Column("GPU", [Cell(", ".join(cost.gpus)) for cost in costs], numeric=False),
        _column("GPU hours", costs, lambda cost: _amount(cost.gpu_hours)),
        _column("GPU in use", costs, lambda cost: _share(cost.gpu_utilisation)),
        _column("kWh", costs, lambda cost: _amount(cost.kwh)),
        _column("PUE", costs, lambda cost: _plain(cost.pue)),
        _column("kg CO₂e/kWh", costs, lambda cost: _plain(cost.carbon_intensity)),
        _column("kg CO₂e", costs, lambda cost: _amount(cost.kg_co2e)),
        _column("On disk", costs, lambda cost: "" if cost.bytes is None else size(cost.bytes)),
    ]
    return [column for column in columns if any(cell.text for cell in column.cells)]


def cost_sum(costs: Sequence[StageCost]) -> list[str]:
    """The last row, in the order of `cost_columns`: sums of what adds up."""
    sums = {
        "Stage": "together",
        "Tasks": form.count(sum(cost.tasks for cost in costs)),
        "Time, tasks together": duration(sum(cost.seconds for cost in costs)),
        "GPU hours": _amount(_sum(cost.gpu_hours for cost in costs)),
        "kWh": _amount(_sum(cost.kwh for cost in costs)),
        "kg CO₂e": _amount(_sum(cost.kg_co2e for cost in costs)),
        "On disk": size(sum(cost.bytes or 0 for cost in costs)),
    }
    return [sums.get(column.heading, "") for column in cost_columns(costs)]


def cost_remarks(costs: Sequence[StageCost]) -> list[str]:
    """What the table does not say: idle money first, then how energy was measured."""
    remarks = [
        f"{cost.stage} kept its GPUs {form.percent(cost.gpu_utilisation or 0)} in use: "
        f"{_idle(cost)}paid for and idle. Larger batches, fewer GPUs or faster reading of data would save it."
        for cost in costs
        if cost.idle
    ]
    measured = [cost for cost in costs if cost.kwh is not None]
    if not measured:
        return [*remarks, "Energy was not measured."]
    unmeasured = sum(cost.unmeasured for cost in measured) + sum(cost.tasks for cost in costs if cost.kwh is None)
    sources = ", ".join(dict.fromkeys(source for cost in measured for source in cost.sources))
    sentence = f"Energy as measured{f' by {sources}' if sources else ''}, of GPUs alone"
    if unmeasured:
        sentence += f"; {form.count(unmeasured)} task{'s' if unmeasured != 1 else ''} had no meter and add nothing"
    if any(cost.kg_co2e is not None for cost in measured):
        sentence += ". kg CO₂e: kWh × PUE × intensity of the grid"
    return [*remarks, f"{sentence}."]


def _idle(cost: StageCost) -> str:
    """How many GPU hours, where they are known."""
    if cost.gpu_hours is None:
        return "the rest was "
    idle = cost.gpu_hours * (1 - (cost.gpu_utilisation or 0))
    return f"of {amount(cost.gpu_hours)} GPU hours {amount(idle)} were "


def _column(heading: str, costs: Iterable[StageCost], shown: Callable[[StageCost], str]) -> Column:
    return Column(heading, [Cell(shown(cost)) for cost in costs])


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _amount(value: float | None) -> str:
    return "" if value is None else amount(value) if value else "0"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _share(value: float | None) -> str:
    return "" if value is None else form.percent(value)
