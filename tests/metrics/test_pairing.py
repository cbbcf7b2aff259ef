"""Systems compared seed by seed: which with which, and with the figures of sacreBLEU's own command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kd.metrics.pairing import Match, compare, matches, members, named
from kd.metrics.significance import Resampling, paired_test
from kd.models.systems import System, SystemRole

PAIRS = {"student": {"control": True, "student-first": True, "teacher": False}, "student-finetuned": {"student": True}}


def trained(label: str, *members: str) -> list[System]:
    """A training of one model, or of several members."""
    system = System(SystemRole.student, label)
    return [replace(system, member=member) for member in members] or [system]


STUDENT, CONTROL = trained("student"), trained("control")
SEEDS = [*trained("student", "1", "2"), *trained("control", "1", "2", "3")]


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        ([*trained("teacher"), *STUDENT, *CONTROL, replace(STUDENT[0], format="int8")], [("student", "control")]),
        (
            [*SEEDS, replace(STUDENT[0], ensemble=True), replace(SEEDS[0], format="int8")],
            [("student-1", "control-1"), ("student-2", "control-2")],
        ),
        (
            [*STUDENT, *trained("student-first"), *trained("student-finetuned"), *CONTROL],
            [("student", "control"), ("student", "student-first"), ("student-finetuned", "student")],
        ),
        ([*trained("student", "10", "2"), *trained("control", "2", "10")],
         [("student-2", "control-2"), ("student-10", "control-10")]),
        ([*trained("student", "1"), *trained("control", "2")], []),
        ([*trained("teacher"), *CONTROL], []),
    ],
)  # fmt: skip
def test_members_of_one_seed_are_compared(systems: list[System], expected: list[tuple[str, str]]) -> None:
    assert [(match.system, match.other) for match in matches(PAIRS, systems)] == expected


def test_a_label_with_a_dash_is_not_a_member_of_its_first_word() -> None:
    systems = [*trained("student-first", "2", "1"), *trained("student", "1")]
    assert [each.name for each in members("student", systems).values()] == ["student-1"]
    first = {seed: system.name for seed, system in members("student-first", systems).items()}
    assert first == {"1": "student-first-1", "2": "student-first-2"}


def test_a_name_means_the_system_or_the_first_member_of_the_training() -> None:
    for name, expected in {"control": "control-1", "control-3": "control-3", "teacher": None}.items():
        found = named(name, SEEDS)
        assert (found.name if found else None) == expected


def test_each_seeds_figures_are_those_of_sacrebleus_command_line(tmp_path: Path) -> None:
    drawn = random.Random(11)
    words = ["the", "committee", "shall", "adopt", "rules", "of", "procedure", "by", "majority", "Article", "12", "."]
    reference = [" ".join(drawn.choices(words, k=drawn.randint(1, 14))) for _ in range(60)]
    losses = {
        "control-1": 0.2,
        "control-2": 0.24,
        "control-3": 0.2,
        "student-1": 0.12,
        "student-2": 0.2,
        "student-3": 0.3,
    }
    systems = {
        name: [" ".join(word for word in line.split() if drawn.random() > loss) for line in reference]
        for name, loss in losses.items()
    }
    (tmp_path / "reference").write_text("".join(f"{line}\n" for line in reference))
    for name, lines in systems.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    resampling = Resampling(samples=200, seed=77)
    together = paired_test(systems, "control-1", [reference], ["bleu"], resampling)
    by_seed = []
    identities = [*trained("student", "1", "2", "3"), *trained("control", "1", "2", "3")]
    for match in matches({"student": {"control": True}}, identities):
        command = [
            sys.executable,
            "-m",
            "sacrebleu",
            "reference",
            "-i",
            match.other,
            match.system,
            "-m",
            "bleu",
            "chrf",
        ]
        done = subprocess.run(
            [*command, "--paired-bs", "--paired-bs-n", "200", "--format", "json"],
            cwd=tmp_path, env={**os.environ, "SACREBLEU_SEED": "77"}, capture_output=True, check=True,
        )  # fmt: skip
        theirs = {row["system"]: row for row in json.loads(done.stdout)}
        found = compare(match, systems, [reference], ["bleu", "chrf"], resampling=resampling)
        assert [item["metric"] for item in found] == ["BLEU", "chrF2"]
        for item in found:
            expected = theirs[f"{match.system}"][item["metric"]]
            assert (item["value"], item["p_value"]) == (expected["score"], expected["p_value"])
            baseline = next(row for name, row in theirs.items() if name.endswith(match.other) or match.other in name)
            assert item["other_value"] == baseline[item["metric"]]["score"]
        by_seed.append(found[0])
    assert [(item["system"], item["other"]) for item in by_seed] == [
        (f"student-{k}", f"control-{k}") for k in (1, 2, 3)
    ]
    # By construction the first is better, and the third worse.
    assert by_seed[0]["p_value"] < 0.05 and by_seed[0]["value"] > by_seed[0]["other_value"]
    assert by_seed[2]["p_value"] < 0.05 and by_seed[2]["value"] < by_seed[2]["other_value"]
    # Against the control of its own seed, which is another figure than against the first one's.
    against_first = next(item for item in together if item.system == "student-2")
    assert by_seed[1]["p_value"] != against_first.p_value
    assert by_seed[0]["p_value"] == next(item for item in together if item.system == "student-1").p_value


def test_without_resampling_there_are_scores_alone() -> None:
    match = Match("student", "control", "student", "control")
    (item,) = compare(match, {"control": ["a b c d e"], "student": ["a b c d"]}, [["a b c d e"]], ["bleu"])
    assert item["p_value"] is None and item["other_value"] == pytest.approx(100) and item["value"] < 100
