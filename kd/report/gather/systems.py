"""The rows of the table of results: each system's scores, sizes and speeds, and which of them the verdict is about.

Systems are told apart by their names, which begin with the label of the training that they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd.models.systems import member_name
from kd.pipeline.model import Artifact
from kd.report.model import Comparison, MetricScore, PairedScore, Speed, SystemKind, SystemRow, TestSet, VerdictRoles


def shown_name(name: str) -> str:
    """A system's name for people: `teacher-ensemble` is the teacher ensemble."""
    return name.replace("-", " ")


def trainings_of(artifacts: Iterable[Artifact], pair: str) -> dict[str, list[Artifact]]:
    """The trainings that a pair's systems come from, by label: its own, and those that serve all pairs."""
    found: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        if artifact.axis in (pair, None):
            found.setdefault(artifact.label, []).append(artifact)
    return found


def rows(
    evaluation: Mapping[str, Any],
    speeds: Mapping[str, Any],
    trainings: Mapping[str, list[Artifact]],
    pair: str,
) -> list[SystemRow]:
    """The systems of one evaluation, in its order.

    speeds: by system, as the speed stage left them. trainings: as `trainings_of` gives them. pair: shown; empty where
    there is only one.
    """
    # The recipe's baseline comes first.
    main: list[dict[str, Any]] = next(iter(evaluation["significance"].values()), [])
    significance = {(item["system"], item["metric"]): item for item in main}
    exported = {name for name, speed in speeds.items() if speed.get("form", "fairseq") != "fairseq"}
    elsewhere = set(evaluation.get("made_elsewhere", []))
    found = []
    for name, scores in evaluation["scores"].items():
        label = _label(name, trainings)
        kind, speed = _kind(name, label, exported), speeds.get(name, {})
        if name in elsewhere:
            label, kind = name, SystemKind.public
        members = trainings.get(label, []) if kind is not SystemKind.public else []
        members = [a for a in members if f"{name}-".startswith(f"{member_name(label, a.task)}-")] or members
        facts = [artifact.manifest["facts"] for artifact in members]
        found.append(
            SystemRow(
                name=shown_name(name),
                kind=kind,
                scores=[_score(score, significance.get((name, score["metric"]))) for score in scores],
                pair=pair,
                exported_from=shown_name(name.rpartition("-")[0]) if kind is SystemKind.export else "",
                parameters=sum(fact["parameters"] for fact in facts) if facts else None,
                megabytes=speed.get("megabytes"),
                sentences_per_second=speed.get("sentences_per_second"),
                training_updates=facts[0]["updates"] if facts and kind is not SystemKind.export else None,
                training_seconds=_training_seconds(members) if kind is not SystemKind.export else None,
                speed=_speed(speed),
            )
        )
    return found


def sets_apart(evaluation: Mapping[str, Any], pair: str) -> list[TestSet]:
    """The test sets of an evaluation by themselves, the main one first; none where there is only one."""
    sets = evaluation.get("sets", {})
    if len(sets) < 2:
        return []
    return [
        TestSet(
            name=name,
            segments=found["segments"],
            leakage=str(found.get("leakage", {}).get("verdict", "not looked for")),
            scores={shown_name(system): [_score(score, None) for score in s] for system, s in found["scores"].items()},
            pair=pair,
        )
        for name, found in sets.items()
    ]


def comparisons(evaluation: Mapping[str, Any], pair: str) -> list[Comparison]:
    """The tests of an evaluation against all its baselines."""
    return [
        Comparison(shown_name(item["system"]), shown_name(baseline), item["metric"], item["p_value"], pair)
        for baseline, items in evaluation["significance"].items()
        for item in items
        if item["p_value"] is not None
    ]


def paired(evaluation: Mapping[str, Any], pair: str) -> list[PairedScore]:
    """What an evaluation compared seed by seed, on its main test set."""
    names = ("of", "against", "system", "other")
    return [
        PairedScore(**{**item, **{name: shown_name(item[name]) for name in names}}, pair=pair)
        for item in evaluation.get("pairs", [])
    ]


def verdict_roles(systems: Sequence[SystemRow], trainings: Iterable[Artifact] = ()) -> VerdictRoles:
    """The first student, its control and its deployed form, and what was distilled.

    A student that serves all pairs comes first where there is one, and beside it the first that has a pair to itself.
    """
    axes = {shown_name(artifact.label): artifact.axis for artifact in trainings}
    students = [row.name for row in systems if row.kind is SystemKind.student]
    shared = [name for name in students if name in axes and axes[name] is None]

    def first(kind: SystemKind, ending: str = "") -> str:
        return next((row.name for row in systems if row.kind is kind and row.name.endswith(ending)), "")

    student = next(iter([*shared, *students]), "")
    bilingual = next((name for name in students if axes.get(name)), "") if shared else ""
    exports = [row for row in systems if row.kind is SystemKind.export and row.exported_from in (student, "")]
    export = next((row.name for row in exports if row.name.endswith("int8")), exports[0].name if exports else "")
    return VerdictRoles(
        student=student,
        control=first(SystemKind.control),
        teacher=first(SystemKind.ensemble) or first(SystemKind.teacher),
        export=export,
        bilingual=bilingual,
    )


def _label(name: str, labels: Iterable[str]) -> str:
    """The label of the training that a system comes from; labels may hold dashes themselves."""
    return max((label for label in labels if f"{name}-".startswith(f"{label}-")), key=len, default=name)


def _kind(name: str, label: str, exported: Iterable[str]) -> SystemKind:
    if name in exported:
        return SystemKind.export
    if name == f"{label}-ensemble":
        return SystemKind.ensemble
    return SystemKind(label) if label in SystemKind.__members__ else SystemKind.student


def _training_seconds(members: Sequence[Artifact]) -> float | None:
    """Of all members together; nobody knows it of models trained elsewhere."""
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
