"""What stages leave behind, as records: curves, costs, the order of the chain, systems and test sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.records import plain
from kd.models.systems import System, SystemKind, SystemRole
from kd.pipeline.model import Artifact
from kd.report.corpora import flow
from kd.report.costs import costs
from kd.report.provenance import in_chain_order, provenance
from kd.report.systems import rows, sets_apart, verdict_roles
from kd.report.training import CurvePoint, curves, merged, thinned, training_table


def artifact(
    stage: str,
    task: str = "all",
    label: str = "",
    path: Path = Path("none"),
    members: int = 1,
    **manifest: Any,
) -> Artifact:
    """An artifact of a training: `members` says how many its stage makes."""
    known: dict[str, Any] = {
        "inputs": {},
        "counts": {},
        "dropped": {},
        "facts": {"parameters": 7, "updates": 100},
        "seconds": 10.0,
        "bytes": 1000,
        "versions": {"kd": "0.1.0"},
        "kind": "train",
    }
    name, _, axis = stage.partition(".")
    number = task.partition("member-")[2] or None
    role = SystemRole.control if name == "control" else SystemRole.student
    system = System(role, name, number if members > 1 else None, pair=axis or None)
    subject = plain(system)
    return Artifact(path, label or name, stage, task, "f" * 16, axis or None, {"seed": 1}, known | manifest, subject)


# --- curves ----------------------------------------------------------------------------------------------------------

# As trainings write them: with what it has cost by then, and (below) as an earlier version did.
LINES = """\
{"split": "train", "update": 100, "epoch": 1, "loss": 6.5, "target_tokens": 87100, "seconds": 20.5, "devices": 4}
{"split": "dev", "update": 100, "loss": 6.1, "bleu": 2.5, "target_tokens": 87100, "seconds": 24.0, "devices": 4}
{"split": "train", "update": 200, "epoch": 2, "loss": 5.5, "target_tokens": 174200, "seconds": 44.0, "devices": 4}
{"split": "dev", "update": 200, "loss": 5.2, "bleu": null, "target_tokens": 174200, "seconds": 48.0, "devices": 4}
{"split": "train", "upd"""
EARLIER = """\
{"split": "train", "update": 20, "epoch": 3, "loss": 4.59, "target_tokens": 871.0, "seconds": 51.8}
{"split": "dev", "update": 20, "epoch": 3, "loss": 8.854, "bleu": 0.77, "seconds": 53.259}
"""


def test_a_trainings_own_lines_become_its_curve(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES, "utf-8")
    trained = artifact("student.en-de", "member-1", path=tmp_path, device="cuda")
    (curve,) = curves([trained], several=False)
    assert (curve.name, curve.kind, curve.device) == ("student", SystemKind.student, "cuda")
    assert curve.points == [
        CurvePoint(100, 6.1, 2.5, 6.5, 87100, 24.0, 4),
        CurvePoint(200, 5.2, None, 5.5, 174200, 48.0, 4),
    ]
    assert curve.points[1].device_hours == pytest.approx(48 * 4 / 3600)
    assert curve.best_bleu == curve.points[0] and curve.best_loss == curve.points[1]


def test_the_table_of_trainings_shows_utilisation_and_shares(tmp_path: Path) -> None:
    shares = '"saving_share": 0.02, "validating_share": 0.125, '
    lines = [
        f'{{"split": "train", "update": {n}, "loss": 5.0, "seconds": {n}.0, {shares}"mfu": {mfu}}}\n'
        for n, mfu in enumerate(("null", "0.1", "0.41", "0.42"), 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines), "utf-8")
    found = curves([artifact("student.en-de", "member-1", path=tmp_path)], several=False)
    table = training_table(found)
    shown = {column.heading: column.cells[0].text for column in table.columns}
    assert (shown["MFU"], shown["Validating"], shown["Saving"]) == ("41.0%", "12.5%", "2.0%")


def test_lines_of_an_earlier_version_have_no_tokens_seen(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(EARLIER, "utf-8")
    (curve,) = curves([artifact("control.en-de", "member-1", path=tmp_path)], several=False)
    assert curve.points == [CurvePoint(20, 8.854, 0.77, 4.59, None, 53.259, None)]  # 871 are those of one update


def test_of_a_training_without_lines_the_manifest_tells() -> None:
    facts = {"validations": [{"update": 5, "dev_loss": 9.0, "dev_bleu": 0.1}]}
    found = curves([artifact("teacher.en-de", f"member-{n}", members=2, facts=facts) for n in (1, 2)], several=True)
    assert [(curve.name, curve.points) for curve in found] == [
        ("teacher 1 (en-de)", [CurvePoint(5, 9.0, 0.1)]),
        ("teacher 2 (en-de)", [CurvePoint(5, 9.0, 0.1)]),
    ]
    assert curves([artifact("given.en-de", facts={})], several=False) == []  # trained elsewhere


def test_what_was_gone_through_twice_counts_as_it_was_last() -> None:
    lines = [{"split": "dev", "update": update, "loss": loss} for update, loss in [(1, 9.0), (2, 8.0), (2, 7.0)]]
    assert [(point.update, point.dev_loss) for point in merged(lines)] == [(1, 9.0), (2, 7.0)]


def test_long_trainings_are_thinned_and_keep_validations_and_end() -> None:
    points = [CurvePoint(n, 5.0 if n % 1000 == 0 else None, train_loss=5.0) for n in range(1, 10_001)]
    kept = thinned(points, most=100)
    assert len(kept) <= 2 * 100 + 2 and kept[-1] is points[-1]
    assert [point.update for point in kept if point.dev_loss] == list(range(1000, 10_001, 1000))
    assert thinned([]) == []


# --- costs, data, provenance -----------------------------------------------------------------------------------------

ENERGY = {
    "kwh": 2.0,
    "source": "nvml",
    "gpus": ["NVIDIA A100-SXM4-40GB"] * 4,
    "gpu_utilisation": 0.5,
    "pue": 1.2,
    "carbon_intensity": 0.25,
    "kg_co2e": 0.6,
}


def test_energy_of_members_adds_up() -> None:
    other = ENERGY | {"gpu_utilisation": 0.8, "kwh": 1.0, "kg_co2e": 0.3}
    members = [
        artifact("teacher", "1", seconds=3600, energy=ENERGY),
        artifact("teacher", "2", seconds=1200, energy=other),
    ]
    (cost,) = costs(members)
    assert cost.gpus == ["NVIDIA A100-SXM4-40GB"] and cost.sources == ["nvml"]
    assert cost.gpu_hours == pytest.approx(4 * 4800 / 3600)
    assert (cost.kwh, cost.pue, cost.carbon_intensity) == (3.0, 1.2, 0.25)
    assert cost.kg_co2e == pytest.approx(0.9)
    assert cost.gpu_utilisation == pytest.approx((0.5 * 3600 + 0.8 * 1200) / 4800) and cost.idle
    assert (cost.tasks, cost.bytes, cost.unmeasured) == (2, 2000, 0)


def test_what_was_not_measured_is_not_nought() -> None:
    none = {"kwh": None, "source": "not measured", "gpus": [], "gpu_utilisation": None, "pue": None,
            "carbon_intensity": None, "kg_co2e": None}  # fmt: skip
    (cost,) = costs([artifact("decode", "1", energy=none), artifact("decode", "2")])
    assert (cost.kwh, cost.gpu_hours, cost.kg_co2e, cost.sources, cost.idle) == (None, None, None, [], False)
    (cost,) = costs([artifact("decode", "1", energy=none), artifact("decode", "2", energy=ENERGY)])
    assert (cost.kwh, cost.unmeasured) == (2.0, 1)


def test_stages_stand_in_the_order_of_the_chain() -> None:
    chain = {
        "evaluate.en-de": ["translate.en-de"], "student.en-de": ["encode_selected.en-de"], "collect.en-de": [],
        "select.en-de": ["decode.en-de"], "control.en-de": ["encode.en-de"], "decode.en-de": ["teacher.en-de"],
        "encode.en-de": ["collect.en-de"], "teacher.en-de": ["encode.en-de"], "encode_selected.en-de": ["select.en-de"],
        "translate.en-de": ["student.en-de", "control.en-de"],
    }  # fmt: skip
    found = in_chain_order(
        [artifact(stage, inputs={"all": [f"{name}/all@abc" for name in needs]}) for stage, needs in chain.items()]
    )
    order = [each.stage.partition(".")[0] for each in found]
    assert all(
        order.index(n.partition(".")[0]) < order.index(s.partition(".")[0]) for s, needs in chain.items() for n in needs
    )


def test_flow_adds_up_pairs_of_a_stage() -> None:
    stages = [
        artifact("clean.en-de", counts={"pairs in": 100, "pairs out": 90}, dropped={"copy": 10}),
        artifact("clean.en-sv", counts={"pairs in": 50, "pairs out": 45}, dropped={"copy": 2, "empty": 3}),
        artifact("teacher.en-de", counts={"updates": 5}),
    ]
    (step,) = flow(stages, several=False)
    assert (step.stage, step.entered, step.left, step.dropped) == ("clean", 150, 135, {"copy": 12, "empty": 3})
    assert [step.stage for step in flow(stages, several=True)] == ["clean.en-de", "clean.en-sv"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, {}), ("/kd.sif", {"/kd.sif": ""}), ({"path": "/kd.sif", "sha256": "ab"}, {"/kd.sif": "ab"})],
)
def test_containers_and_all_versions_are_named(value: object, expected: dict[str, str]) -> None:
    tasks = [artifact("a", container=value, host="n1"), artifact("b", versions={"kd": "0.2.0"}, host="n2")]
    found = provenance(tasks, {"name": "cluster"}, "cpu")
    assert found.containers == expected
    assert found.versions == {"kd": "0.1.0, 0.2.0"} and found.machine["hosts"] == "n1, n2"
    assert found.seeds == {"a": 1, "b": 1}


# --- systems ---------------------------------------------------------------------------------------------------------


def evaluation(*systems: System, sets: dict[str, Any] | None = None) -> dict[str, Any]:
    """Scores as `evaluate` writes them, of one test set unless others are given."""
    score = {"metric": "BLEU", "value": 30.0, "signature": "s"}
    one = {"segments": 60, "scores": {system.name: [score] for system in systems}, "significance": {},
           "leakage": {"verdict": "clean", "pairs": 0}, "pairs": []}  # fmt: skip
    found = {name: {**one, **changed} for name, changed in (sets or {"held_out": {}}).items()}
    return {"systems": plain(list(systems)), **next(iter(found.values())), "sets": found}


STUDENT = System(SystemRole.student, "student", pair="en-de")
INT8 = replace(STUDENT, format="int8", engine="ctranslate2")
OPUS = System(SystemRole.external, "opus-mt", engine="")


def test_systems_have_their_speed_and_external_ones_no_training() -> None:
    speeds = {
        "student-int8": {
            "form": "ctranslate2", "sentences_per_second": 200.0, "tokens_per_second": 4000.0, "megabytes": 2.0,
            "all_cores": {"cores": 8, "sentences_per_second": 1500.0, "tokens_per_second": 30000.0, "seconds": [1.0]},
            "latency_ms": {"median": 9.5, "p99": 21.0, "sentences": 100}, "load_seconds": 0.1,
            "memory_megabytes": 55.0, "process_megabytes": 300.0, "gpu_megabytes": None,
        }
    }  # fmt: skip
    content = evaluation(STUDENT, INT8, OPUS)
    student, export, external = rows(content, speeds, [artifact("student.en-de", "member-1")], "en-de", "")
    assert [row.kind for row in (student, export, external)] == [
        SystemKind.student,
        SystemKind.export,
        SystemKind.external,
    ]
    assert (export.speed.cores, export.speed.sentences_per_second_all_cores) == (8, 1500.0)
    assert (export.speed.latency_ms, export.speed.latency_p99_ms, export.speed.memory_megabytes) == (9.5, 21.0, 55.0)
    assert external.parameters is None and (student.parameters, export.parameters) == (7, 7)
    assert (student.training_updates, export.training_updates) == (100, None)
    assert verdict_roles([student, export, external]).export == "student int8"


def test_members_have_their_own_training_and_an_ensemble_all_of_them() -> None:
    members = [System(SystemRole.teacher, "teacher", str(number), pair="en-de") for number in (1, 2)]
    ensemble = replace(members[0], member=None, ensemble=True)
    trainings = [artifact("teacher.en-de", f"member-{n}", members=2, seconds=10.0 * n) for n in (1, 2)]
    trainings.append(artifact("teacher.en-fi", "member-1"))
    found = rows(evaluation(*members, ensemble), {}, trainings, "en-de", "")
    assert [(row.name, row.parameters, row.training_seconds) for row in found] == [
        ("teacher 1", 7, 10.0),
        ("teacher 2", 7, 20.0),
        ("teacher ensemble", 14, 30.0),
    ]
    assert [row.kind for row in found] == [SystemKind.teacher, SystemKind.teacher, SystemKind.ensemble]


def test_a_training_called_public_or_export_is_what_its_role_says() -> None:
    systems = [System(SystemRole.student, "public"), System(SystemRole.control, "export")]
    found = rows(evaluation(*systems), {}, [], "en-de", "")
    assert [row.kind for row in found] == [SystemKind.student, SystemKind.control]
    roles = verdict_roles(found)
    assert (roles.student, roles.control, roles.export) == ("public", "export", "")


def test_each_test_set_is_listed_where_there_are_several() -> None:
    sets = {"held_out": {}, "wmt21": {"segments": 40, "leakage": {"verdict": "removed 3", "pairs": 3}}}
    several = evaluation(STUDENT, INT8, sets=sets)
    assert [(each.name, each.segments, each.leakage) for each in sets_apart(several, "")] == [
        ("held_out", 60, "clean"),
        ("wmt21", 40, "removed 3"),
    ]
    assert list(sets_apart(several, "")[0].scores) == ["student", "student int8"]
    assert sets_apart(evaluation(STUDENT), "") == []
