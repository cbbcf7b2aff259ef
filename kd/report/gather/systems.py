"""The rows of the table of results: each system's scores, sizes and speeds, and which of them the verdict is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.base.records import record
from kd.models.systems import System, SystemKind, labelled
from kd.pipeline.model import Artifact
from kd.report.model import Comparison, MetricScore, PairedScore, Speed, SystemRow, TestSet, VerdictRoles

DEPLOYED = "int8"  # the number format that is preferred among a student's exports


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
        shown: The same in the row; empty where the run has only one pair.
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
                parameters=sum(fact["parameters"] for fact in facts) if facts else None,
                megabytes=speed.get("megabytes"),
                sentences_per_second=speed.get("sentences_per_second"),
                training_updates=facts[0]["updates"] if facts and not system.format else None,
                training_seconds=None if system.format else _training_seconds(members),
                speed=_speed(speed),
            )
        )
    return found


def _is_model_of(trained: System, system: System) -> bool:
    """Whether a training made a system, or a member of it."""
    if not system.engine or trained.label != system.label:
        return False
    return system.ensemble or trained.member == system.member


def sets_apart(evaluation: Mapping[str, Any], pair: str) -> list[TestSet]:
    """Return the test sets of an evaluation one by one, the main one first; none where there is only one."""
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


def verdict_roles(rows: Sequence[SystemRow]) -> VerdictRoles:
    """Choose the first student, its control, its deployed form, and the teacher that was distilled.

    A student for several language pairs comes before those of a single pair, the first of which then is the bilingual
    one. Of several exports of the student the one in int8 is deployed.
    """
    by_kind = {kind: [row.system for row in rows if row.kind is kind] for kind in SystemKind}
    students = by_kind[SystemKind.student]
    shared = [system for system in students if system.pair is None]
    single = [system for system in students if system.pair is not None]
    student = next(iter([*shared, *single]), None)
    exports = [system for system in by_kind[SystemKind.export] if system.trained == student]
    exports.sort(key=lambda system: system.format != DEPLOYED)
    return VerdictRoles(
        student=_title(student),
        control=_title(next(iter(by_kind[SystemKind.control]), None)),
        teacher=_title(next(iter([*by_kind[SystemKind.ensemble], *by_kind[SystemKind.teacher]]), None)),
        export=_title(next(iter(exports), None)),
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
