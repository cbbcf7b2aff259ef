"""Paired tests and confidence intervals against sacreBLEU's own command line with the same seed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.metrics.significance import BOOTSTRAP, RANDOMISATION, Resampling, Significance, intervals, paired_test

SEGMENTS = 60
METRICS = ["bleu", "chrf", "ter"]


@pytest.fixture(scope="module")
def reference() -> list[str]:
    drawn = random.Random(7)
    words = ["the", "committee", "shall", "adopt", "rules", "of", "procedure", "by", "majority", "Article", "12", "."]
    return [" ".join(drawn.choices(words, k=drawn.randint(1, 14))) for _ in range(SEGMENTS)]


@pytest.fixture(scope="module")
def systems(reference: list[str]) -> dict[str, list[str]]:
    """Three systems that lose words of the reference, the more the later they stand."""
    drawn = random.Random(8)
    return {
        name: [" ".join(word for word in line.split() if drawn.random() > loss) for line in reference]
        for name, loss in [("ensemble", 0.1), ("control", 0.22), ("student", 0.2)]
    }


def command_line(folder: Path, systems: dict[str, list[str]], references: list[list[str]], *options: str) -> list[dict]:
    """sacreBLEU's answer in JSON, seed 77; the first system is its baseline."""
    for name, text in [*((str(i), text) for i, text in enumerate(references)), *systems.items()]:
        (folder / name).write_text("".join(f"{line}\n" for line in text))
    command = [sys.executable, "-m", "sacrebleu", *(folder / str(i) for i in range(len(references)))]
    command += ["-i", *(folder / name for name in systems), "-m", *METRICS, "--format", "json", *options]
    environment = {**os.environ, "SACREBLEU_SEED": "77"}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def in_order(systems: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: systems[name] for name in ("control", "ensemble", "student")}


def test_bootstrap_equals_sacrebleus_command_line(
    tmp_path: Path, systems: dict[str, list[str]], reference: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "1")  # the seed asked for counts, and the variable is left as it was
    ordered = in_order(systems)
    expected = command_line(tmp_path, ordered, [reference], "--paired-bs", "--paired-bs-n", "100")
    found = paired_test(systems, "control", [reference], METRICS, Resampling(samples=100, seed=77))
    assert os.environ["SACREBLEU_SEED"] == "1"

    by_name = {(result.system, result.metric): result for result in found}
    assert list(by_name) == [(system, metric) for system in ordered for metric in ("BLEU", "chrF2", "TER")]
    for system, row in zip(ordered, expected, strict=True):
        for metric in ("BLEU", "chrF2", "TER"):
            result, theirs = by_name[system, metric], row[metric]
            assert (result.value, result.mean, result.p_value) == (theirs["score"], theirs["mean"], theirs["p_value"])
            assert result.interval == (theirs["mean"] - theirs["ci"], theirs["mean"] + theirs["ci"])
            assert "bs:100|seed:77" in result.signature
    assert by_name["control", "BLEU"].p_value is None
    # By construction the ensemble is far better than the control, and the student hardly.
    assert by_name["ensemble", "BLEU"].p_value < 0.05 < by_name["student", "BLEU"].p_value


def test_randomisation_equals_sacrebleus_command_line(
    tmp_path: Path, systems: dict[str, list[str]], reference: list[str]
) -> None:
    references = [reference, [line.lower() for line in reference]]
    expected = command_line(tmp_path, in_order(systems), references, "--paired-ar", "--paired-ar-n", "200")
    resampling = Resampling(test=RANDOMISATION, samples=50, trials=200, seed=77)
    found = paired_test(systems, "control", references, METRICS, resampling)
    theirs = [row[metric] for row in expected for metric in ("BLEU", "chrF2", "TER")]
    assert [result.value for result in found] == [score["score"] for score in theirs]
    assert [result.p_value for result in found[3:]] == [score["p_value"] for score in theirs[3:]]
    assert all(result.signature.startswith("nrefs:2|") and "ar:200" in result.signature for result in found)
    # Its command line gives no interval with this test; ours is that of bootstrap resampling.
    assert all(result.interval[0] < result.value < result.interval[1] for result in found)


def test_intervals_equal_sacrebleus_confidence(
    tmp_path: Path, systems: dict[str, list[str]], reference: list[str]
) -> None:
    one = {"student": systems["student"]}
    options = ("--confidence", "--confidence-n", "100", "--width", "12")
    expected = {row["name"]: row for row in command_line(tmp_path, one, [reference], *options)}
    for result in intervals(one, [reference], METRICS, Resampling(samples=100, seed=77)):
        theirs = expected[result.metric]
        assert result.value == pytest.approx(theirs["score"], abs=1e-11)
        assert result.mean == pytest.approx(theirs["confidence_mean"], abs=1e-11)
        half = (result.interval[1] - result.interval[0]) / 2
        assert half == pytest.approx(theirs["confidence_var"], abs=1e-11)
        assert result.signature == theirs["signature"]
        assert result.p_value is None


@pytest.mark.parametrize("test", [BOOTSTRAP, RANDOMISATION])
def test_a_system_does_not_differ_from_itself(test: str, systems: dict[str, list[str]], reference: list[str]) -> None:
    twins = {"control": systems["control"], "twin": list(systems["control"]), "student": systems["student"]}
    found = paired_test(twins, "control", [reference], METRICS, Resampling(test=test, samples=50, trials=50))
    assert [each.p_value for each in found if each.system == "twin"] == [1.0, 1.0, 1.0]
    assert [each.p_value for each in found if each.system == "control"] == [None, None, None]
    assert all(0 < (each.p_value or 0) < 1 for each in found if each.system == "student")


def test_seed_decides(systems: dict[str, list[str]], reference: list[str]) -> None:
    def run(seed: int, jobs: int = 1) -> list[Significance]:
        resampling = Resampling(samples=50, seed=seed, jobs=jobs)
        return paired_test(systems, "control", [reference], ["chrf"], resampling)

    assert run(3) == run(3) == run(3, jobs=2)
    assert [result.mean for result in run(3)] != [result.mean for result in run(4)]


def test_several_references_are_in_the_signature(systems: dict[str, list[str]], reference: list[str]) -> None:
    references = [reference, reference[::-1]]
    result = paired_test(systems, "control", references, ["bleu"], Resampling(samples=10))[0]
    assert result.signature.startswith("nrefs:2|bs:10|seed:12345|")


def test_records_are_plain_numbers(systems: dict[str, list[str]], reference: list[str]) -> None:
    few = Resampling(samples=10)
    for result in [
        *paired_test(systems, "control", [reference], METRICS, few),
        *intervals(systems, [reference], METRICS, few),
    ]:
        assert {type(result.value), type(result.mean), *map(type, result.interval)} == {float}
        assert result.interval[0] <= result.mean <= result.interval[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "teacher"}, "no system 'teacher'.*ensemble, control, student"),
        ({"resampling": Resampling(samples=1)}, "at least 2, got 1"),
        (
            {"resampling": Resampling(seed=0)},
            "must be at least 1, got 0",
        ),  # sacreBLEU would draw afresh
        ({"resampling": Resampling(test="ttest")}, "no paired test 'ttest'"),
        ({"metrics": ["blue"]}, "no metric 'blue'"),
        ({"references": [["one"]]}, "ensemble has 60 lines, but the reference has 1"),
    ],
)
def test_what_makes_no_sense_is_refused(
    change: dict, message: str, systems: dict[str, list[str]], reference: list[str]
) -> None:
    arguments = {"baseline": "control", "references": [reference], "metrics": ["bleu"], **change}
    with pytest.raises(UserError, match=message):
        paired_test(systems, **arguments)
