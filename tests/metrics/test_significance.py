"""Paired bootstrap resampling against sacreBLEU's own command line with the same seed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kd.errors import UserError
from kd.metrics.significance import Significance, paired_bootstrap

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


def command_line(folder: Path, systems: dict[str, list[str]], reference: list[str], seed: int) -> list[dict]:
    """sacreBLEU's answer in JSON; the first system is its baseline."""
    for name, text in [("reference", reference), *systems.items()]:
        (folder / name).write_text("".join(f"{line}\n" for line in text))
    command = [sys.executable, "-m", "sacrebleu", folder / "reference", "-i", *(folder / name for name in systems)]
    command += ["-m", *METRICS, "--paired-bs", "--paired-bs-n", "100", "--format", "json"]
    environment = {**os.environ, "SACREBLEU_SEED": str(seed)}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def test_equals_sacrebleus_command_line(
    tmp_path: Path, systems: dict[str, list[str]], reference: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "1")  # the seed asked for counts, and the variable is left as it was
    ordered = {name: systems[name] for name in ("control", "ensemble", "student")}
    expected = command_line(tmp_path, ordered, reference, seed=77)
    found = paired_bootstrap(systems, "control", [reference], METRICS, resamples=100, seed=77)
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


def test_seed_decides(systems: dict[str, list[str]], reference: list[str]) -> None:
    def run(seed: int, jobs: int = 1) -> list[Significance]:
        return paired_bootstrap(systems, "control", [reference], ["chrf"], resamples=50, seed=seed, jobs=jobs)

    assert run(3) == run(3) == run(3, jobs=2)
    assert [result.mean for result in run(3)] != [result.mean for result in run(4)]


def test_several_references_are_in_the_signature(systems: dict[str, list[str]], reference: list[str]) -> None:
    result = paired_bootstrap(systems, "control", [reference, reference[::-1]], ["bleu"], resamples=10)[0]
    assert result.signature.startswith("nrefs:2|bs:10|seed:12345|")


def test_records_are_plain_numbers(systems: dict[str, list[str]], reference: list[str]) -> None:
    for result in paired_bootstrap(systems, "control", [reference], METRICS, resamples=10):
        assert {type(result.value), type(result.mean), *map(type, result.interval)} == {float}
        assert result.interval[0] <= result.mean <= result.interval[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "teacher"}, "no system 'teacher'.*ensemble, control, student"),
        ({"resamples": 0}, "0 resamplings"),
        ({"seed": 0}, "seed of the bootstrap cannot be 0"),  # sacreBLEU would draw afresh at each call
        ({"metrics": ["blue"]}, "no metric 'blue'"),
        ({"references": [["one"]]}, "ensemble has 60 lines, the reference has 1"),
    ],
)
def test_what_makes_no_sense_is_refused(
    change: dict, message: str, systems: dict[str, list[str]], reference: list[str]
) -> None:
    arguments = {"baseline": "control", "references": [reference], "metrics": ["bleu"], **change}
    with pytest.raises(UserError, match=message):
        paired_bootstrap(systems, **arguments)
