"""Report: one page that says how good and how fast each model is, what selection changed, and how to do it again.

It gathers what the other stages left and computes nothing of its own; `report.json` beside it has the same numbers.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kd.config import ReportConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json
from kd.corpora.lines import open_lines
from kd.engines.systems import member_name
from kd.errors import IncompleteArtifact
from kd.pipeline.contract import Artifact, Job, Kind, Role, Summary
from kd.report.guards import guard_counts
from kd.report.leakage import leakage
from kd.report.model import (
    Comparison,
    Curve,
    CurvePoint,
    Example,
    FlowStep,
    MetricScore,
    Provenance,
    ReportData,
    Selection,
    StageCost,
    SystemKind,
    SystemRow,
    VerdictRoles,
)
from kd.report.selection import selection
from kd.stages.outputs import HYPOTHESES, PAGE, REPORT, SCORES, SELECTION, SPEED


class Report(Kind[ReportConfig]):
    """Makes the page."""

    name = "report"
    version = 2
    config = ReportConfig
    roles: ClassVar = {
        "held_out": Role(),
        "scores": Role(many=True),
        "speeds": Role(many=True, optional=True),
        "translations": Role(many=True),
        "trainings": Role(many=True),
        "selections": Role(many=True, optional=True),
        "others": Role(many=True, optional=True),  # whose counts, costs and settings the page shows as well
    }

    def run(self, job: Job[ReportConfig]) -> None:
        """Gathers and renders."""
        from kd.report.page import render

        data = gather(job)
        (job.out / REPORT).write_text(data.to_json(), "utf-8")
        (job.out / PAGE).write_text(render(data), "utf-8")

    def check(self, job: Job[ReportConfig]) -> Summary:
        """Reads the numbers back."""
        data = ReportData.from_dict(read_json(job.out / REPORT))
        if not (job.out / PAGE).stat().st_size:
            raise IncompleteArtifact(f"{job.out / PAGE} is empty.")
        return Summary({"systems": len(data.systems)})


def gather(job: Job[ReportConfig]) -> ReportData:
    """All that the page shows."""
    inputs = job.inputs
    evaluations = {str(artifact.axis): read_json(artifact.path / SCORES) for artifact in inputs["scores"]}
    speeds = {str(artifact.axis): read_json(artifact.path / SPEED) for artifact in inputs.get("speeds", [])}
    several = len(evaluations) > 1
    systems, comparisons = [], []
    for pair, evaluation in evaluations.items():
        shown = pair if several else ""
        trainings = _trainings(inputs["trainings"], pair)
        systems += _rows(evaluation, speeds.get(pair, {}).get("systems", {}), trainings, shown)
        comparisons += _comparisons(evaluation, shown)
    baseline = next((next(iter(e["significance"])) for e in evaluations.values() if e["significance"]), "")
    # In the order of the chain, as far as roles tell: first what the others stand on.
    roles = sorted(inputs, key=lambda role: role != "others")
    everything = [artifact for role in roles for artifact in inputs[role]]
    return ReportData(
        title=job.config.title,
        date=_newest(everything),
        systems=systems,
        verdict=_verdict(systems),
        baseline=_display(baseline),
        comparisons=comparisons,
        test_set=", ".join(f"{pair}: {e['segments']:,} segments held out" for pair, e in evaluations.items()),
        speed_note=next((speed["note"] for speed in speeds.values()), ""),
        curves=_curves(inputs["trainings"], several),
        selections=_selections(inputs.get("selections", []), several),
        guards=guard_counts(
            [(str(artifact.axis), artifact.manifest) for artifact in inputs.get("others", [])],
            [
                (str(artifact.axis), read_json(artifact.path / SELECTION), str(artifact.settings.get("on_guard", "")))
                for artifact in inputs.get("selections", [])
            ],
            several,
        ),
        examples=_examples(job, several),
        flow=_flow(everything, several),
        leakage=leakage(artifact.manifest for artifact in everything),
        costs=_costs(everything),
        provenance=_provenance(everything, job),
    )


# --- systems ---------------------------------------------------------------------------------------------------------


def _display(name: str) -> str:
    return name.replace("-", " ")


def _label(name: str, labels: Iterable[str]) -> str:
    """The label of the training that a system comes from; labels may hold dashes themselves."""
    return max((label for label in labels if f"{name}-".startswith(f"{label}-")), key=len, default=name)


def _kind(name: str, label: str, exported: Iterable[str]) -> SystemKind:
    if name in exported:
        return SystemKind.export
    if name == f"{label}-ensemble":
        return SystemKind.ensemble
    return SystemKind(label) if label in SystemKind.__members__ else SystemKind.student


def _trainings(artifacts: Iterable[Artifact], pair: str) -> dict[str, list[Artifact]]:
    """The trainings that a pair's systems come from, by label: its own, and those that serve all pairs."""
    found: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        if artifact.axis in (pair, None):
            found.setdefault(artifact.label, []).append(artifact)
    return found


def _rows(
    evaluation: Mapping[str, Any],
    speeds: Mapping[str, Any],
    trainings: Mapping[str, list[Artifact]],
    pair: str,
) -> list[SystemRow]:
    # The recipe's baseline comes first.
    main: list[dict[str, Any]] = next(iter(evaluation["significance"].values()), [])
    significance = {(item["system"], item["metric"]): item for item in main}
    exported = {name for name, speed in speeds.items() if speed["form"] != "fairseq"}
    rows = []
    for name, scores in evaluation["scores"].items():
        label = _label(name, trainings)
        kind, speed = _kind(name, label, exported), speeds.get(name, {})
        members = trainings.get(label, [])
        members = [a for a in members if f"{name}-".startswith(f"{member_name(label, a.task)}-")] or members
        facts = [artifact.manifest["facts"] for artifact in members]
        rows.append(
            SystemRow(
                name=_display(name),
                kind=kind,
                scores=[_score(score, significance.get((name, score["metric"]))) for score in scores],
                pair=pair,
                exported_from=_display(name.rpartition("-")[0]) if kind is SystemKind.export else "",
                parameters=sum(fact["parameters"] for fact in facts) if facts else None,
                megabytes=speed.get("megabytes"),
                sentences_per_second=speed.get("sentences_per_second"),
                training_updates=facts[0]["updates"] if facts and kind is not SystemKind.export else None,
                training_seconds=_training_seconds(members) if kind is not SystemKind.export else None,
            )
        )
    return rows


def _training_seconds(members: Sequence[Artifact]) -> float | None:
    """Of all members together; nobody knows it of models trained elsewhere."""
    trained = [artifact.manifest["seconds"] for artifact in members if artifact.manifest["kind"] == "train"]
    return sum(trained) if trained and len(trained) == len(members) else None


def _score(score: Mapping[str, Any], significance: Mapping[str, Any] | None) -> MetricScore:
    return MetricScore(
        metric=score["metric"],
        value=score["value"],
        signature=score["signature"],
        interval=(significance["interval"][0], significance["interval"][1]) if significance else None,
        p_value=significance["p_value"] if significance else None,
    )


def _comparisons(evaluation: Mapping[str, Any], pair: str) -> list[Comparison]:
    return [
        Comparison(_display(item["system"]), _display(baseline), item["metric"], item["p_value"], pair)
        for baseline, items in evaluation["significance"].items()
        for item in items
        if item["p_value"] is not None
    ]


def _verdict(systems: Sequence[SystemRow]) -> VerdictRoles:
    def first(kind: SystemKind, ending: str = "") -> str:
        return next((row.name for row in systems if row.kind is kind and row.name.endswith(ending)), "")

    return VerdictRoles(
        student=first(SystemKind.student),
        control=first(SystemKind.control),
        teacher=first(SystemKind.ensemble) or first(SystemKind.teacher),
        export=first(SystemKind.export, "int8") or first(SystemKind.export),
    )


# --- trainings and selection -----------------------------------------------------------------------------------------


def _curves(artifacts: Sequence[Artifact], several: bool) -> list[Curve]:
    members = Counter((artifact.stage, artifact.label) for artifact in artifacts)
    curves = []
    for artifact in artifacts:
        number = artifact.task.rpartition("-")[2]
        name = f"{artifact.label} {number}" if members[artifact.stage, artifact.label] > 1 else artifact.label
        kind = SystemKind(artifact.label) if artifact.label in SystemKind.__members__ else SystemKind.student
        points = [
            CurvePoint(point["update"], point.get("dev_loss"), point.get("dev_bleu"))
            for point in artifact.manifest["facts"]["validations"]
        ]
        if not points:
            continue  # trained elsewhere
        curves.append(Curve(f"{name} ({artifact.axis})" if several and artifact.axis else name, kind, points))
    return curves


def _selections(artifacts: Iterable[Artifact], several: bool) -> list[Selection]:
    by_pair: dict[str, list[dict[str, Any]]] = {}
    for artifact in artifacts:
        by_pair.setdefault(str(artifact.axis), []).append(read_json(artifact.path / SELECTION))
    return [selection(pair if several else "", parts) for pair, parts in by_pair.items()]


def _examples(job: Job[ReportConfig], several: bool) -> list[Example]:
    """The first test segments; the set is in a seeded order, so they are a random sample."""
    outputs: dict[str, dict[str, list[str]]] = {}
    for artifact in job.inputs["translations"]:
        lines = open_lines(artifact.path / HYPOTHESES)
        outputs.setdefault(str(artifact.axis), {})[_display(artifact.task)] = [
            line for line, _ in zip(lines, range(job.config.examples), strict=False)
        ]
    held_out = job.one("held_out").path
    return [
        Example(pair.source, pair.target, {name: lines[i] for name, lines in systems.items()}, axis if several else "")
        for axis, systems in outputs.items()
        for i, pair in enumerate(read_heldout(held_out, axis, "test")[: job.config.examples])
    ]


# --- data, costs, provenance -----------------------------------------------------------------------------------------


def _flow(artifacts: Iterable[Artifact], several: bool) -> list[FlowStep]:
    steps: dict[str, FlowStep] = {}
    for artifact in artifacts:
        counts = artifact.manifest["counts"]
        if "pairs out" not in counts:
            continue
        stage = artifact.stage if several else artifact.stage.partition(".")[0]
        entered, left = counts.get("pairs in", counts["pairs out"]), counts["pairs out"]
        before = steps.get(stage, FlowStep(stage, 0, 0))
        dropped = Counter(before.dropped)
        dropped.update(artifact.manifest["dropped"])
        steps[stage] = FlowStep(stage, before.entered + entered, before.left + left, dict(dropped))
    return list(steps.values())


def _costs(artifacts: Iterable[Artifact]) -> list[StageCost]:
    costs: dict[str, StageCost] = {}
    for artifact in artifacts:
        before = costs.get(artifact.stage, StageCost(artifact.stage, 0.0, 0, 0))
        costs[artifact.stage] = StageCost(
            artifact.stage,
            before.seconds + artifact.manifest["seconds"],
            before.tasks + 1,
            (before.bytes or 0) + artifact.manifest["bytes"],
        )
    return list(costs.values())


def _provenance(artifacts: Sequence[Artifact], job: Job[ReportConfig]) -> Provenance:
    settings = {artifact.stage: dict(artifact.settings) for artifact in artifacts}
    seeds = {stage: values["seed"] for stage, values in settings.items() if isinstance(values.get("seed"), int)}
    versions: dict[str, str] = {}
    for artifact in artifacts:
        versions |= artifact.manifest["versions"]
    return Provenance(
        config=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
        versions=versions,
        fingerprints={f"{artifact.stage}/{artifact.task}": artifact.fingerprint for artifact in artifacts},
        seeds=seeds,
        machine={
            "name": str(job.machine.get("name", "")),
            "device": job.device,
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "system": f"{platform.system()} {platform.machine()}",
        },
    )


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _newest(artifacts: Iterable[Artifact]) -> str:
    return max(str(artifact.manifest["finished"]) for artifact in artifacts)
