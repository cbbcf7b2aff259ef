"""Report: make one page on the quality and speed of each model, the effect of selection, costs and provenance.

It gathers the outputs of other stages and computes no results itself; `report.json` has the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact
from kd.base.records import record
from kd.corpora.index import read_json
from kd.models.known import Known, single_task
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary
from kd.recipe.schema import ReportConfig
from kd.recipe.schema.running import SystemRole
from kd.report.corpora import flow, leakage
from kd.report.costs import costs
from kd.report.data import ReportData
from kd.report.evaluation_card import EvaluationCard, evaluation_card, to_json
from kd.report.provenance import in_chain_order, provenance
from kd.report.results import terminal
from kd.report.robustness import gathered as robustness
from kd.report.search import Search
from kd.report.selection import GuardCounts, Selection, guard_counts, selection
from kd.report.source_only import SourceOnly, source_only
from kd.report.systems import comparisons, paired, rows, sets_apart, titles_in, verdict_roles
from kd.report.training import curves
from kd.report.verdict import lessons
from kd.report.weaknesses import examples, first_outputs, segments, weaknesses
from kd.stages.outputs import (
    CHOSEN,
    EVALUATION_CARD,
    FIGURES,
    HYPOTHESES,
    PAGE,
    PAIRS_LATEX,
    PAIRS_MARKDOWN,
    REPORT,
    RESULTS_LATEX,
    RESULTS_MARKDOWN,
    ROBUSTNESS,
    SCORES,
    SEARCH_LATEX,
    SEARCH_MARKDOWN,
    SELECTION,
    SPEED,
    WEAKNESSES,
)


class Report(Kind[ReportConfig]):
    """Make the page, its tables and figures, and the evaluation card."""

    name = "report"
    version = 6  # 5: what the student learned; 6: the metric that leads
    config = ReportConfig
    imports = ("vl_convert",)
    delivers = True
    reports = True
    roles: ClassVar = {
        "held_out": Role(),
        "scores": Role(many=True),
        "speeds": Role(many=True, optional=True),
        "translations": Role(many=True),
        "trainings": Role(many=True),
        "searches": Role(many=True, optional=True),
        "selections": Role(many=True, optional=True),
        "others": Role(many=True, optional=True),  # their counts, costs and settings are on the page too
    }

    def run(self, job: Job[ReportConfig]) -> None:
        """Gather the data, write the tables, draw the figures and render the page."""
        from kd.report import across
        from kd.report.figures import draw
        from kd.report.page import render
        from kd.report.results import results_document
        from kd.report.search import search_document

        job.progress.update("gathering")
        data = gather(job)
        (job.out / REPORT).write_text(data.to_json(), "utf-8")
        (job.out / EVALUATION_CARD).write_text(to_json(evaluation_card(data)), "utf-8")
        documents = {(RESULTS_MARKDOWN, RESULTS_LATEX): results_document(data)}
        if across.compared_pairs(data):
            documents[PAIRS_MARKDOWN, PAIRS_LATEX] = across.document(data)
        for number, search in enumerate(data.searches, 1):
            ending = f"-{number}." if len(data.searches) > 1 else "."
            names = SEARCH_MARKDOWN.replace(".", ending), SEARCH_LATEX.replace(".", ending)
            documents[names] = search_document(search)
        for (markdown, latex), document in documents.items():
            (job.out / markdown).write_text(document.markdown(), "utf-8")
            (job.out / latex).write_text(document.latex(), "utf-8")
        job.progress.update("drawing")
        figures = draw(data)
        (job.out / FIGURES).mkdir(exist_ok=True)
        for figure in figures.values():
            figure.write(job.out / FIGURES)
        (job.out / PAGE).write_text(render(data, figures), "utf-8")

    def check(self, job: Job[ReportConfig]) -> Summary:
        """Read the numbers back."""
        data = ReportData.from_dict(read_json(job.out / REPORT))
        record(EvaluationCard, read_json(job.out / EVALUATION_CARD), EVALUATION_CARD)
        for name in (PAGE, RESULTS_MARKDOWN, RESULTS_LATEX):
            if not (job.out / name).stat().st_size:
                raise IncompleteArtifact(f"{job.out / name} is empty.")
        return Summary({"systems": len(data.systems)})

    def results(self, folder: Path, shown_at: Path) -> Iterator[Any]:
        """Yield the table of results and the path of the page."""
        yield terminal(ReportData.from_dict(read_json(folder / REPORT)))
        yield f"Page: {shown_at / PAGE}"

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the tasks by their number."""
        return single_task(stage, allowance=5e6)


def gather(job: Job[ReportConfig]) -> ReportData:
    """Gather all data of the page."""
    inputs = job.inputs
    evaluations = {str(artifact.axis): read_json(artifact.path / SCORES) for artifact in inputs["scores"]}
    speeds = {str(artifact.axis): read_json(artifact.path / SPEED) for artifact in inputs.get("speeds", [])}
    several = len(evaluations) > 1
    systems, tests, sets, pairs = [], [], [], []
    for pair, evaluation in evaluations.items():
        shown = pair if several else ""
        measured = speeds.get(pair, {}).get("systems", {})
        systems += rows(evaluation, measured, inputs["trainings"], pair, shown)
        tests += comparisons(evaluation, shown)
        sets += sets_apart(evaluation, shown)
        pairs += paired(evaluation, shown)
    titles = {pair: titles_in(evaluation) for pair, evaluation in evaluations.items()}
    baseline = next((titles[p][next(iter(e["significance"]))] for p, e in evaluations.items() if e["significance"]), "")
    # Among stages that do not depend on each other, those on the way to the student come first.
    roles = sorted(inputs, key=lambda role: role not in ("others", "selections"))
    # Once each: of a stage that is off, others read what stands in for it.
    unique = {artifact.reference: artifact for role in roles for artifact in inputs[role]}
    everything = in_chain_order(list(unique.values()))
    counted, robust = (_left(inputs["scores"], name) for name in (WEAKNESSES, ROBUSTNESS))
    outputs = first_outputs(inputs["translations"], HYPOTHESES, max(job.config.examples, job.config.segments))
    held_out = job.one("held_out").path
    beside = source_only(inputs["trainings"])
    return ReportData(
        title=job.config.title,
        date=_newest(everything),
        systems=systems,
        verdict=replace(
            verdict_roles(systems, job.config.metric.value),
            lessons=_lessons(inputs["trainings"], inputs.get("selections", []), beside),
        ),
        baseline=baseline,
        comparisons=tests,
        paired=pairs,
        test_set=", ".join(f"{pair}: {e['segments']:,} segments held out" for pair, e in evaluations.items()),
        test_sets=sets,
        speed_note=next((speed["note"] for speed in speeds.values()), ""),
        speed_notes=next((speed.get("notes", {}) for speed in speeds.values()), {}),
        source_only=beside,
        curves=curves(inputs["trainings"], several),
        searches=_searches(inputs.get("searches", []), several),
        selections=_selections(inputs.get("selections", []), several),
        guards=_guards(job, several),
        weaknesses=weaknesses(counted, titles, job.config.examples, several),
        robustness=robustness(robust, titles, several),
        examples=examples(outputs, held_out, job.config.examples, several),
        segments=segments(counted, titles, outputs, held_out, job.config.segments, several),
        flow=flow(everything, several),
        leakage=leakage(artifact.manifest for artifact in everything),
        costs=costs(everything),
        provenance=provenance(everything, job.machine, job.device),
    )


def _left(artifacts: Iterable[Artifact], name: str) -> dict[str, dict[str, Any]]:
    """Return a file of a stage by language pair; artifacts without it are left out."""
    return {str(each.axis): read_json(each.path / name) for each in artifacts if (each.path / name).is_file()}


def _lessons(trainings: Iterable[Artifact], selections: Iterable[Artifact], beside: SourceOnly | None) -> str:
    """Return the sentences on what the student learned from its teachers; empty without a student."""
    settings = [artifact.settings for artifact in trainings if artifact.label == SystemRole.student.value]
    selection = next((artifact.settings for artifact in selections), {})
    return lessons(settings[0], selection, beside) if settings else ""


def _searches(artifacts: Iterable[Artifact], several: bool) -> list[Search]:
    found: list[Search] = [record(Search, read_json(artifact.path / CHOSEN), CHOSEN) for artifact in artifacts]
    return found if several else [replace(each, pair="") for each in found]


def _selections(artifacts: Iterable[Artifact], several: bool) -> list[Selection]:
    by_pair: dict[str, list[dict[str, object]]] = {}
    for artifact in artifacts:
        by_pair.setdefault(str(artifact.axis), []).append(read_json(artifact.path / SELECTION))
    return [selection(pair if several else "", parts) for pair, parts in by_pair.items()]


def _guards(job: Job[ReportConfig], several: bool) -> list[GuardCounts]:
    decoded = [(str(artifact.axis), artifact.manifest) for artifact in job.inputs.get("others", [])]
    selected = [
        (str(artifact.axis), read_json(artifact.path / SELECTION), str(artifact.settings.get("on_guard", "")))
        for artifact in job.inputs.get("selections", [])
    ]
    return guard_counts(decoded, selected, several)


def _newest(artifacts: Iterable[Artifact]) -> str:
    return max(str(artifact.manifest["finished"]) for artifact in artifacts)
