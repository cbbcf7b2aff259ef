"""Costs on the page: time, GPU hours, energy and disk of each stage, from the manifests of all artifacts.

Time includes every attempt, even interrupted ones; energy is measured, never estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd.base.text import amount, duration, size
from kd.pipeline.model import Artifact
from kd.report import formatting as form
from kd.report.table import Cell, Column, Table

IDLE = 0.7
"""Mean GPU utilisation below which GPUs are reported as idle."""


@dataclass(frozen=True)
class StageCost:
    """Time, energy and disk space of a stage, summed over its tasks."""

    stage: str
    seconds: float  # of all its tasks together
    tasks: int = 1
    bytes: int | None = None  # its artifacts on disk
    gpus: list[str] = field(default_factory=list)  # types, by the driver's names
    gpu_hours: float | None = None  # None: on CPU, or their number is not known
    kwh: float | None = None  # measured; None: of no task
    unmeasured: int = 0  # tasks without kWh, where others have them
    sources: list[str] = field(default_factory=list)  # of the kWh: nvml, rocm-smi
    gpu_utilisation: float | None = None  # 0 to 1, mean weighted by time
    pue: float | None = None  # power usage effectiveness
    carbon_intensity: float | None = None  # kg CO2e a kWh
    kg_co2e: float | None = None
    tokens_read: int | None = None  # by a language model behind a server
    tokens_written: int | None = None
    price: float | None = None  # of these tokens; None where the recipe states no prices
    currency: str = ""

    @property
    def idle(self) -> bool:
        """Whether the stage's GPUs were idle much of the time."""
        return self.gpu_utilisation is not None and self.gpu_utilisation < IDLE


def costs(artifacts: Iterable[Artifact]) -> list[StageCost]:
    """Return one record for each stage."""
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for artifact in artifacts:
        by_stage.setdefault(artifact.stage, []).append(artifact.manifest)
    return [_cost(stage, manifests) for stage, manifests in by_stage.items()]


def _cost(stage: str, manifests: Sequence[Mapping[str, Any]]) -> StageCost:
    energies = [(manifest["seconds"], manifest.get("energy") or {}) for manifest in manifests]
    kwh = [energy["kwh"] for _, energy in energies if energy.get("kwh") is not None]
    co2 = [energy["kg_co2e"] for _, energy in energies if energy.get("kg_co2e") is not None]
    hours = [seconds / 3600 * len(energy["gpus"]) for seconds, energy in energies if energy.get("gpus")]
    busy = [(s, e["gpu_utilisation"]) for s, e in energies if e.get("gpu_utilisation") is not None and s > 0]
    return StageCost(
        stage=stage,
        seconds=sum(manifest["seconds"] for manifest in manifests),
        tasks=len(manifests),
        bytes=sum(manifest["bytes"] for manifest in manifests),
        gpus=list(dict.fromkeys(str(name) for _, energy in energies for name in energy.get("gpus") or [])),
        gpu_hours=sum(hours) if hours else None,
        kwh=sum(kwh) if kwh else None,
        unmeasured=len(manifests) - len(kwh) if kwh else 0,
        sources=list(dict.fromkeys(str(e["source"]) for _, e in energies if e.get("source") and e.get("kwh"))),
        gpu_utilisation=sum(s * share for s, share in busy) / sum(s for s, _ in busy) if busy else None,
        pue=_common(energy.get("pue") for _, energy in energies),
        carbon_intensity=_common(energy.get("carbon_intensity") for _, energy in energies),
        kg_co2e=sum(co2) if co2 else None,
        **_asked([manifest.get("facts") or {} for manifest in manifests]),
    )


def _asked(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the tokens of a stage that used a server, and their price; empty for other stages."""
    asked = [each for each in facts if "prompt tokens" in each]
    if not asked:
        return {}
    prices = [each["price"] for each in asked if "price" in each]
    return {
        "tokens_read": sum(each["prompt tokens"] for each in asked),
        "tokens_written": sum(each.get("completion tokens", 0) for each in asked),
        "price": sum(prices) if prices else None,
        "currency": str(next((each["currency"] for each in asked if "currency" in each), "")),
    }


def _common(values: Iterable[float | None]) -> float | None:
    """Return the value that all tasks share; None if they differ, since a sum of kWh then has no single factor."""
    found = {value for value in values if value is not None}
    return found.pop() if len(found) == 1 else None


def cost_table(costs: Sequence[StageCost]) -> Table:
    """Make the table of costs by stage, with a row of sums."""
    columns = [
        Column("Stage", [Cell(cost.stage) for cost in costs], numeric=False),
        _column("Tasks", costs, lambda cost: form.count(cost.tasks)),
        _column("Time, tasks together", costs, lambda cost: duration(cost.seconds)),
        _column("Tokens read", costs, lambda cost: _count(cost.tokens_read)),
        _column("Tokens written", costs, lambda cost: _count(cost.tokens_written)),
        _column("Price of tokens", costs, lambda cost: _priced(cost.price, cost.currency)),
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
    table = Table(columns, "Costs by stage")
    return replace(table, total=[sums.get(column.heading, "") for column in table.columns])


def cost_remarks(costs: Sequence[StageCost]) -> list[str]:
    """List remarks on the table: idle GPUs first, then how energy was measured."""
    remarks = [
        f"{cost.stage} used its GPUs {form.percent(cost.gpu_utilisation or 0)} of the time: "
        f"{_idle(cost)}allocated but idle. Try larger batches, fewer GPUs or faster reading of data."
        for cost in costs
        if cost.idle
    ]
    measured = [cost for cost in costs if cost.kwh is not None]
    if not measured:
        return [*remarks, "Energy was not measured."]
    unmeasured = sum(cost.unmeasured for cost in measured) + sum(cost.tasks for cost in costs if cost.kwh is None)
    sources = ", ".join(dict.fromkeys(source for cost in measured for source in cost.sources))
    sentence = f"Energy was measured{f' by {sources}' if sources else ''}, of GPUs alone"
    if unmeasured:
        sentence += f"; {form.count(unmeasured)} task{'s' if unmeasured != 1 else ''} had no meter and are not counted"
    if any(cost.kg_co2e is not None for cost in measured):
        sentence += ". kg CO₂e: kWh × PUE × intensity of the grid"
    return [*remarks, f"{sentence}."]


def _idle(cost: StageCost) -> str:
    """Describe how many GPU hours were idle, if known."""
    if cost.gpu_hours is None:
        return "the remaining time was "
    idle = cost.gpu_hours * (1 - (cost.gpu_utilisation or 0))
    return f"of {amount(cost.gpu_hours)} GPU hours {amount(idle)} were "


def _column(heading: str, costs: Iterable[StageCost], shown: Callable[[StageCost], str]) -> Column:
    return Column(heading, [Cell(shown(cost)) for cost in costs])


def _sum(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def _amount(value: float | None) -> str:
    return "" if value is None else amount(value) if value else "0"


def _count(value: int | None) -> str:
    return "" if value is None else form.count(value)


def _priced(price: float | None, currency: str) -> str:
    return "" if price is None else f"{price:,.2f} {currency}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _share(value: float | None) -> str:
    return "" if value is None else form.percent(value)
