"""A report as a small run would leave it: made-up figures, and text that tries to be more than text."""

import math
from collections.abc import Mapping

import pytest

from kd.metrics.segments import Behind, Bucket, Kept, Weaknesses
from kd.models.systems import System, SystemKind, SystemRole
from kd.report.corpora import FlowStep, Leakage, LeakedCorpus, LeakedSet
from kd.report.costs import StageCost
from kd.report.data import ReportData
from kd.report.figures import draw
from kd.report.figures.drawing import Figure
from kd.report.provenance import Provenance
from kd.report.selection import ChangedPair, GuardCounts, Histogram, Selection
from kd.report.systems import MetricScore, SystemRow, VerdictRoles
from kd.report.training import Curve, CurvePoint
from kd.report.weaknesses import Example, WeaknessesOfPair

BLEU = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
CHRF = "nrefs:1|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0"
SCRIPT = "<script>alert(1)</script>"


def identity(name: str, kind: SystemKind) -> System:
    """The system of a title: `teacher 1`, `student int8`; its last word is a member or a format."""
    label, _, last = name.rpartition(" ")
    role = SystemRole(kind.value) if kind.value in SystemRole.__members__ else SystemRole.student
    if kind is SystemKind.ensemble:
        return System(SystemRole.teacher, label, ensemble=True)
    if kind is SystemKind.export:
        return System(role, label, format=last, engine="ctranslate2")
    return System(role, label, member=last) if last.isdecimal() else System(role, name)


def system(name: str, kind: SystemKind, bleu: float, p: float | None, chrf: float, **facts: object) -> SystemRow:
    scores = [
        MetricScore("BLEU", bleu, BLEU, (bleu - 1.31, bleu + 1.42), p),
        MetricScore("chrF2", chrf, CHRF, (chrf - 1.1, chrf + 1.12), p),
    ]
    return SystemRow(identity(name, kind), scores, **facts)  # type: ignore[arg-type]


def curve(name: str, kind: SystemKind, top: float, updates: int) -> Curve:
    points = [
        CurvePoint(
            step,
            3.1 + 6 * math.exp(-4 * step / updates),
            top * (1 - math.exp(-4 * step / updates)),
            train_loss=2.4 + 6 * math.exp(-4 * step / updates),
            target_tokens=step * 873.0,
            seconds=step * 0.1,
            devices=2,
        )
        for step in range(updates // 8, updates + 1, updates // 8)
    ]
    return Curve(name, kind, points, "cuda")


def weak(empty: int, copied: int) -> Weaknesses:
    return Weaknesses(
        segments=1000,
        empty=empty,
        runaway=4,
        guards={"empty": empty, "copy": copied, "length": 0, "repetition": 7, "language": 2},
        copied=copied,
        short=92,
        short_exact=41,
        short_runaway=3,
        numbers=Kept(80, 72, 6),
        placeholders=Kept(120, 117, 3),
        names=Kept(0, 0, 0),
        buckets=[
            Bucket(1, 3, 92, {"BLEU": 18.2, "chrF2": 40.2}),
            Bucket(4, 10, 610, {"BLEU": 26.4, "chrF2": 50.1}),
            Bucket(11, 20, 298, {"BLEU": 25.1, "chrF2": 51.0}),
            Bucket(21, 40, 0, {}),
            Bucket(41, None, 0, {}),
        ],
    )


TRAINED = {"training_updates": 3000, "training_seconds": 318.0}
STUDENT = {"parameters": 2_310_144, "training_updates": 5000, "training_seconds": 521.0}
SYSTEMS = [
    system("teacher 1", SystemKind.teacher, 27.412, 0.002, 51.2, parameters=2_100_000, megabytes=8.6, **TRAINED),
    system("teacher 2", SystemKind.teacher, 27.033, 0.004, 50.9, parameters=2_100_000, megabytes=8.6, **TRAINED),
    system(
        "teacher ensemble",
        SystemKind.ensemble,
        30.127,
        0.000999,
        53.0,
        parameters=4_200_000,
        megabytes=17.2,
        sentences_per_second=38.4,
        training_updates=3000,
        training_seconds=640.0,
    ),
    system("student", SystemKind.student, 25.94, 0.013, 49.8, megabytes=9.4, sentences_per_second=92.0, **STUDENT),
    system("control", SystemKind.control, 24.31, None, 48.4, megabytes=9.4, sentences_per_second=91.2, **STUDENT),
    system(
        "student float32",
        SystemKind.export,
        25.94,
        0.013,
        49.8,
        parameters=2_310_144,
        megabytes=9.3,
        sentences_per_second=402.0,
    ),
    system(
        "student int8",
        SystemKind.export,
        25.71,
        0.021,
        49.7,
        parameters=2_310_144,
        megabytes=2.6,
        sentences_per_second=611.0,
    ),
]
SOURCES = [
    ("Failed to connect to {name}.", "Verbindung zu {name} fehlgeschlagen."),
    ("The device is already configured.", "Das Gerät ist bereits konfiguriert."),
    (SCRIPT, "<b>fett</b> & „Anführung“"),
    ("Lines\u2028and\x00controls", "Zeilen und\u202eSteuerzeichen"),
    ("Enter the password of your account at https://example.org/login.", "Gib das Passwort deines Kontos ein."),
]


@pytest.fixture
def report() -> ReportData:
    return made_up()


def made_up() -> ReportData:
    names = [row.name for row in SYSTEMS]
    return ReportData(
        title="Home Assistant, English to German",
        date="2026-11-21",
        systems=SYSTEMS,
        verdict=VerdictRoles("student", "control", "teacher ensemble", "student int8"),
        baseline="control",
        test_set="1,000 held-out segments of Home Assistant",
        speed_note="Speed: first 200 test segments, beam 4, one thread, median of 3.",
        curves=[
            curve("teacher 1", SystemKind.teacher, 27.8, 3000),
            curve("teacher 2", SystemKind.teacher, 27.1, 3000),
            curve("student", SystemKind.student, 26.2, 5000),
            curve("control", SystemKind.control, 24.9, 5000),
        ],
        guards=[
            GuardCounts(
                lists=14_812,
                best={"copy": 37, "language": 4},
                set_aside={"copy": 30},
                no_way_out={"copy": 7},
                on_guard="gold",
            )
        ],
        selections=[
            Selection(
                lists=14_812,
                changed=6_517,
                metric="bleu",
                signature="nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.6.0",
                mean_first=33.2,
                mean_selected=39.4,
                ranks=[8295, 3304, 1892, 1321],
                gains=Histogram(
                    [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100], [3001, 1650, 900, 410, 230, 140, 90, 51, 25, 20]
                ),
                examples=[
                    ChangedPair(source, gold, f"Fehler: {gold}", gold, 2, 41.2, 100.00000000000004)
                    for source, gold in SOURCES
                ],
            )
        ],
        weaknesses=[
            WeaknessesOfPair(
                systems={row.name: weak(number, 2 * number) for number, row in enumerate(SYSTEMS)},
                baseline="teacher ensemble",
                worst=[
                    Behind("teacher 1", 7, "chrF2", 11.0, 40.0, *SOURCES[0], "Fehler {name}.", SOURCES[0][1]),
                    Behind("student", 3, "chrF2", 8.1, 77.3, *SOURCES[2], "<b>fett</b> und schräg", SOURCES[2][1]),
                ],
            )
        ],
        examples=[
            Example(source, gold, {name: "" if name.endswith("2") else f"{gold} ({name})" for name in names})
            for source, gold in SOURCES
        ],
        flow=[
            FlowStep("collect.en-de", 31_224, 31_224),
            FlowStep(
                "clean.en-de",
                31_224,
                17_310,
                {"duplicate": 9_812, "copy": 2_405, "too long": 11, "length ratio": 1_686},
            ),
            FlowStep("split.en-de", 17_310, 15_310, {"dev": 1_000, "test": 1_000}),
            FlowStep("select.en-de", 15_310, 15_310),
        ],
        leakage=Leakage(
            [LeakedCorpus("en-de", "remove", 17)],
            [LeakedSet("en-de dev", 1_000), LeakedSet("en-de test (newstest2018)", 2_998, 9, 6, 4)],
            5,
            {SCRIPT: "a test set by its name"},
            3,
            2,
        ),
        costs=[
            StageCost("collect.en-de", 6.2, 1, 2_310_000),
            StageCost(
                "teacher.en-de", 640.0, 2, 120_000_000, ["A100-40GB"], 12.5, 4.25, 0, ["nvml"], 0.52, 1.2, 0.25, 1.275
            ),
            StageCost("decode.en-de", 422.0, 2, 4_200_000),
            StageCost("student.en-de", 521.0, 1, 61_000_000),
            StageCost("control.en-de", 519.0, 1, 61_000_000),
            StageCost("evaluate.en-de", 71.0),
        ],
        provenance=Provenance(
            config="recipe: demo\nseed: 1\nselect:\n  metric: bleu\n  smoothing: exp\n  tokenizer: 13a\n",
            versions={"kd": "0.1.0", "fairseq": "0.12.2", "sacrebleu": "2.6.0", "torch": "2.13.0"},
            fingerprints={f"{row.name}/0": "3f9a" * 16 for row in SYSTEMS[:3]},
            seeds={"recipe": 1, "bootstrap": 12345},
            containers={"/images/kd.sif": "ab" * 32},
            machine={"processor": "AMD EPYC, 2 cores", "memory": "8 GB", "threads per task": "1"},
        ),
    )


@pytest.fixture(scope="session")
def figures() -> Mapping[str, Figure]:
    """Those of the report, drawn once: none of its tests changes what they show."""
    return draw(made_up())
