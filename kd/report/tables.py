"""Further tables of the page: test sets, speed, trainings, selection, data, leakage, guards and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from kd.base.text import amount, duration, size
from kd.metrics.segments import Behind
from kd.report import formatting as form
from kd.report.model import (
    Curve,
    CurvePoint,
    FlowStep,
    GuardCounts,
    Leakage,
    ReportData,
    Selection,
    StageCost,
    SystemRow,
    VerdictRoles,
    WeaknessesOfPair,
)
from kd.report.table import Cell, Column, Table

# --- systems ---------------------------------------------------------------------------------------------------------


def set_table(data: ReportData) -> Table:
    """Make the table of every system's scores on each of several test sets."""
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
            column = Column.of(f"{of_pair}{each.name} {metric}", values, partial(form.metric_score, metric))
            explanation = f"{form.count(each.segments)} segments; leakage guard: {form.of_test_set(each.leakage)}"
            columns.append(replace(column, explanation=explanation))
    return Table(columns, "Scores on each test set")


def speed_table(data: ReportData) -> Table:
    """Make the table of speed and memory; without columns where the table of results has all of it."""
    rows = [row for row in data.systems if row.sentences_per_second]
    cores = next((row.speed.cores for row in rows if row.speed.cores), None)
    several = len({row.pair for row in rows}) > 1
    names = [f"{row.name} {row.pair}" if several else row.name for row in rows]

    def numbers(heading: str, value: Callable[[SystemRow], float | None]) -> Column:
        return Column.of(heading, map(value, rows), amount)

    columns = [
        Column("System", [Cell(name, name) for name in names], numeric=False),
        numbers("Sentences/s", lambda row: row.sentences_per_second),
        numbers(f"Sentences/s, {cores} cores", lambda row: row.speed.sentences_per_second_all_cores),
        numbers("Tokens/s", lambda row: row.speed.tokens_per_second),
        numbers("Latency, ms", lambda row: row.speed.latency_ms),
        numbers("99 % below, ms", lambda row: row.speed.latency_p99_ms),
        numbers("Memory, MB", lambda row: row.speed.memory_megabytes),
        numbers("GPU memory, MB", lambda row: row.speed.gpu_megabytes),
        numbers("Loads in, s", lambda row: row.speed.load_seconds),
        numbers("On disk, MB", lambda row: row.megabytes),
    ]
    table = Table(columns, "Speed, latency and memory")
    return table if len(table.columns) > 3 else Table()  # rate and size are in the table of results


# --- trainings ------------------------------------------------------------------------------------------------------


def training_table(curves: Sequence[Curve]) -> Table:
    """Make the table of how each training ended, and where it was best."""
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
    return Table(columns, "How each training ended")


def _best(point: CurvePoint | None, value: Callable[[CurvePoint], float | None], shown: Callable[[float], str]) -> Cell:
    found = value(point) if point else None
    return Cell() if point is None or found is None else Cell(shown(found), detail=f"at {form.count(point.update)}")


# --- weaknesses ------------------------------------------------------------------------------------------------------


def furthest_behind(weak: WeaknessesOfPair, roles: VerdictRoles) -> dict[str, list[Behind]]:
    """Group the segments by system, the student and its deployed form first."""
    found: dict[str, list[Behind]] = {}
    for item in weak.worst:
        found.setdefault(item.system, []).append(item)
    first = [name for name in (roles.student, roles.export) if name in found]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


# --- data ------------------------------------------------------------------------------------------------------------


def flow_table(flow: Sequence[FlowStep]) -> Table:
    """Make the table of how many sentence pairs each stage let through."""
    rows = [
        (
            step.stage,
            form.count(step.entered),
            form.count(step.left),
            form.percent(step.left / step.entered) if step.entered else "",
            " · ".join(f"{reason} {form.count(number)}" for reason, number in step.dropped.items() if number),
        )
        for step in flow
    ]
    headings = ["Stage", "Pairs in", "Pairs out", "Kept", "Dropped"]
    return Table.of_rows(headings, rows, title="What each stage let through", text=["Stage", "Dropped"])


def leakage_table(leakage: Leakage) -> Table:
    """Make the table of training pairs that matched held-out sets."""
    sets = [(each.name, (each.segments, each.both, each.source, each.target)) for each in leakage.sets]
    rows = [(name, *map(form.count, counts)) for name, counts in sets]
    headings = ["Held-out set", "Segments", "Both sides found", "Source alone", "Target alone"]
    return Table.of_rows(headings, rows, title="Training pairs that matched held-out sets")


def guard_table(guards: GuardCounts) -> Table:
    """Make the table of how often each guard was tripped."""
    rows = []
    for name in guards.names:
        best = guards.best.get(name, 0)
        share = form.percent(best / guards.lists) if guards.lists else ""
        others = (guards.set_aside.get(name, 0), guards.no_way_out.get(name, 0))
        rows.append((name, form.count(best), share, *map(form.count, others)))
    headings = ["Guard", "Lists whose best trips it", "Of all lists", "Pairs with another chosen instead",
                "Pairs whose hypotheses all trip one"]  # fmt: skip
    title = f"What guards were tripped{f', {guards.name}' if guards.name else ''}"
    return Table.of_rows(headings, rows, title=title)


def side_table(selection: Selection) -> Table:
    """Make the table of length and variety of what would be learnt."""
    sides = selection.sides
    columns = [
        Column("What would be learnt", [Cell(side.name) for side in sides], numeric=False),
        Column("Words", [Cell(form.count(side.words)) for side in sides]),
        Column("a sentence", [Cell(form.score(side.words_per_pair)) for side in sides]),
        replace(
            Column.of("Distinct words in 1,000", [side.types_per_window for side in sides], form.score),
            explanation="Standardised type/token ratio: the mean over windows of 1,000 words. Teacher output is "
            "plainer than human text; by how much shows here.",
        ),
    ]
    return Table(columns, "Length and variety of what is learnt")


# --- costs -----------------------------------------------------------------------------------------------------------


def cost_table(costs: Sequence[StageCost]) -> Table:
    """Make the table of what each stage took; its last row adds up what can be added."""
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
    sums = {
        "Stage": "together",
        "Tasks": form.count(sum(cost.tasks for cost in costs)),
        "Time, tasks together": duration(sum(cost.seconds for cost in costs)),
        "GPU hours": _amount(_sum(cost.gpu_hours for cost in costs)),
        "kWh": _amount(_sum(cost.kwh for cost in costs)),
        "kg CO₂e": _amount(_sum(cost.kg_co2e for cost in costs)),
        "On disk": size(sum(cost.bytes or 0 for cost in costs)),
    }
    table = Table(columns, "What each stage took")
    return replace(table, total=[sums.get(column.heading, "") for column in table.columns])


def cost_remarks(costs: Sequence[StageCost]) -> list[str]:
    """List remarks on the table: idle GPUs first, then how energy was measured."""
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
