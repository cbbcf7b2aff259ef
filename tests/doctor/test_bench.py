"""`kd doctor bench=true`: a miniature of every measurement on a CPU, and what becomes of those that fail."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.base.errors import UserError
from kd.base.records import plain
from kd.doctor.bench import command, memory, schedule
from kd.doctor.bench.command import Options, parse_options
from kd.doctor.bench.page import page
from kd.doctor.bench.results import SCHEMA, Measurement, Results, State
from kd.doctor.bench.setup import BIG, STUDENT, NotMeasured, Setup, Values, full, miniature
from kd.engines.fairseq import trial
from kd.models.transformer import parameter_count
from kd.recipe.compose import parse_request
from kd.recipe.schema import ModelConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the results of a whole run on this computer's CPU."""
    folder = tmp_path_factory.mktemp("bench")
    steps = schedule.steps
    trained_by_resume = f"training {STUDENT} fp32"  # which takes the same path as the other model's training
    with pytest.MonkeyPatch.context() as patch:
        # Several processes have tests of their own: test_doctor.py and test_fairseq_nodes.py.
        patch.setattr(command.setup, "miniature", lambda models: replace(miniature(models), processes=1))
        patch.setattr(schedule, "steps", lambda here: [each for each in steps(here) if each.name != trained_by_resume])
        assert command.run(Options(folder), parse_request(["recipe=demo"]), seconds=3000.0) == 0
    return folder


@pytest.fixture(scope="module")
def results(written: Path) -> Results:
    (path,) = written.glob("*.json")
    return Results.read(json.loads(path.read_text("utf-8")), path.name)


@functools.cache
def shapes() -> dict[str, ModelConfig]:
    """The models of the presets."""
    return command.models()


def gpu(folder: Path = Path("none"), **changes: Any) -> Setup:
    """A GPU with 80 GB that is not here."""
    known = Setup(str(folder), "cuda", "NVIDIA H100 80GB HBM3", 1, 80e9, ("bf16", "fp32"), 1, full(shapes()))
    return replace(known, **changes)


# --- the miniature ---------------------------------------------------------------------------------------------------


def test_each_measurement_runs_in_miniature_or_says_why_not(written: Path, results: Results) -> None:
    states = {each.name: (each.state, each.reason) for each in results.measurements}
    measured = (State.measured, "")
    alone = "It needs two GPUs or more, and this computer has one."
    assert states == {
        f"training {BIG} fp32": measured,
        "resume": measured,
        "out of memory": (
            State.not_measured,
            "It needs a GPU: on a CPU the system ends a process that takes too much memory.",
        ),
        "ensemble": measured,
        "ctranslate2": measured,
        "communication": (State.not_measured, alone),
        "scaling": (State.not_measured, alone),
    }
    assert results.miniature and results.schema == SCHEMA
    assert sorted(path.suffix for path in written.iterdir()) == [".json", ".md"]  # nothing else is left


def test_trainings_have_speed_and_forecast_and_a_cpu_neither_mfu_nor_energy(results: Results) -> None:
    for values in (each.values for each in results.measurements if each.name.startswith("training")):
        assert values["tokens_per_second"] > 0 and values["forecast_memory"] > 0
        assert [values[name] for name in ("mfu", "measured_memory", "watts", "joules_per_1000_tokens")] == [None] * 4


def test_a_training_resumes_where_sigusr1_stopped_it(results: Results) -> None:
    values = next(each.values for each in results.measurements if each.name == "resume")
    assert values["stopped_at"] >= 6 and values["updates"] == values["stopped_at"] + 4
    assert values["seconds_to_stop"] > 0 and values["seconds_to_resume"] > 0


def test_the_ensembles_search_finds_what_fairseqs_own_finds(results: Results) -> None:
    values = next(each.values for each in results.measurements if each.name == "ensemble")
    assert values["equal"] >= values["sentences"] - 1  # random weights: a tie may break either way
    assert values["ratio"] == pytest.approx(values["ours"] / values["stock"])


def test_the_page_of_a_miniature_says_so(written: Path, results: Results) -> None:
    (path,) = written.glob("*.md")
    text = path.read_text("utf-8")
    assert text == page(results)
    assert "A miniature on a CPU" in text
    assert "| transformer\\_big | fp32 | 1 |" in text
    assert "stopped by SIGUSR1 at update" in text


# --- time and failures -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_into_the_time_is_left_out(tmp_path: Path) -> None:
    told: list[Measurement] = []
    found = schedule.measure(gpu(tmp_path), 30.0, told.append)
    assert {(each.state, each.reason) for each in found} == {(State.not_measured, "No time was left.")}
    assert told == found
    assert [each.name for each in found][-2:] == [f"training {BIG} fp32", f"training {STUDENT} fp32"]


def test_a_measurement_that_fails_is_one_sentence_and_the_next_one_runs(tmp_path: Path) -> None:
    setup = Setup(str(tmp_path), "cpu", "CPU", 0, None, ("fp32",), 1, miniature(shapes()))  # without data
    chosen = [step for step in schedule.steps(setup) if step.name in (f"training {BIG} fp32", "out of memory")]
    broken, after = schedule.measure(setup, 600.0, lambda _: None, chosen)
    assert broken.state is State.failed
    assert broken.reason.startswith("FileNotFoundError: ") and "\n" not in broken.reason
    assert after.state is State.not_measured and after.reason.startswith("It needs a GPU")


def test_reasons_are_told_from_failures() -> None:
    def raising(error: Exception) -> schedule.Step:
        def run(_: Setup) -> Values:
            raise error

        return schedule.Step("step", run, 1.0)

    setup = gpu()
    assert schedule.answer_of(raising(NotMeasured("no meter")), setup) == {"not measured": "no meter"}
    assert schedule.answer_of(raising(UserError("It broke.", "Mend it.")), setup) == {"failed": "It broke."}
    error = RuntimeError("It ended:\n  line 1\n  CUDA error")
    assert schedule.answer_of(raising(error), setup) == {"failed": "RuntimeError: It ended: … CUDA error"}


def test_one_gpu_is_visible_except_where_all_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fairseq trains on all GPUs that it sees."""
    assert [step.name for step in schedule.steps(gpu()) if step.every_gpu] == ["communication", "scaling"]

    def run(_: Setup) -> Values:
        return {"seen": os.environ["CUDA_VISIBLE_DEVICES"]}

    known = [schedule.Step("one", run, 1.0), schedule.Step("all", run, 1.0, every_gpu=True)]
    monkeypatch.setattr(schedule, "steps", lambda _: known)
    (tmp_path / schedule.SETUP).write_text(json.dumps(plain(gpu(tmp_path, count=2))), "utf-8")
    for name, seen in (("one", "4"), ("all", "4,5")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
        schedule.main(tmp_path, name)
        assert json.loads((tmp_path / "answer.json").read_text("utf-8")) == {"values": {"seen": seen}}


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_step_after_memory_ran_out_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Step:
        """A training step for which the GPU holds 150,000 tokens."""

        def __init__(self, **_: object) -> None: ...

        def __call__(self, size: int, length: int) -> int:
            asked.append(size)
            if size > 150_000:
                raise torch.OutOfMemoryError
            return size

    monkeypatch.setattr(trial, "Step", Step)

    def fit(request: dict[str, Any], _threads: int) -> dict[str, Any]:
        assert request.pop("what") == "fit"
        return trial.fit(**{**request, "device": "cpu"})

    found = memory.recovery(gpu(), fit)
    assert found == {"tried": asked, "out_of_memory": len(asked) - 1}
    assert asked[0] > 150_000 >= asked[-1] and len(asked) > 1


def test_memory_that_does_not_run_out_or_stays_full_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="did not run out of memory"):
        memory.recovery(gpu(), lambda *_: {"tried": [9000], "fits": True})
    with pytest.raises(RuntimeError, match="No step succeeded"):
        memory.recovery(gpu(), lambda *_: {"tried": [9000, 128], "fits": False})


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_shows_utilisation_memory_energy_and_scaling() -> None:
    training = {
        "model": STUDENT,
        "precision": "bf16",
        "workers": 1,
        "tokens_per_second": 200_000.0,
        "mfu": 0.314,
        "micro_batch": 16_384,
        "forecast_memory": 10_000_000_000,
        "measured_memory": 9_000_000_000,
        "joules_per_1000_tokens": 3.5,
        "watts": 700.0,
        "tokens": 3_000_000,
    }
    four = {**training, "workers": 4, "tokens_per_second": 720_000.0}
    measured = [
        Measurement(f"training {STUDENT} bf16", State.measured, "", 30.0, training),
        Measurement("scaling", State.measured, "", 30.0, four),
        Measurement("ctranslate2", State.failed, "RuntimeError: no <kernel>"),
    ]
    where = ("1", "2", "2026-11-30", "node1", "here", "cuda", "NVIDIA H100 80GB HBM3", 4)
    text = page(Results(SCHEMA, *where, miniature=False, seconds=65.0, measurements=measured))
    row = "| student 12+1 | bf16 | 1 | 16,384 | 200,000 | 31.4% | 10.0 GB | 9.0 GB | 0.90 | 700 | 3.5 |"
    assert row in text
    assert "3.60 times the tokens/s of one process on 4: efficiency 90%" in text
    assert "| ctranslate2 | failed | RuntimeError: no \\<kernel\\> |" in text
    assert "miniature" not in text


def test_models_are_the_presets() -> None:
    """Parameters as docs/training.md has them, after Vaswani et al. (2017) and the eTranslation team's talk."""
    found = {name: parameter_count(model, 32_000) for name, model in shapes().items()}
    assert found == {BIG: 209_125_376, STUDENT: 58_418_688}


# --- the command line ------------------------------------------------------------------------------------------------


def test_options_are_told_from_settings() -> None:
    assert parse_options(["machine=lumi", "folder=x"]) == (None, ["machine=lumi", "folder=x"])
    assert parse_options(["bench=false", "machine=lumi"]) == (None, ["machine=lumi"])
    assert parse_options(["bench=true", "folder=x", "machine=lumi"]) == (Options(Path("x")), ["machine=lumi"])
    with pytest.raises(UserError, match=r"bench=yes is neither true nor false\. Write bench=true\."):
        parse_options(["bench=yes"])


def test_a_scheduler_or_a_missing_gpu_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_trial", lambda *_: {"gpu": None})
    for overrides, message in (
        (["launcher=slurm"], "measures the computer on which it runs, but the launcher is slurm"),
        (["machine=localhost_gpu"], "machine.device is cuda, but no GPU can be used on this computer"),
    ):
        with pytest.raises(UserError, match=message):
            command.run(Options(tmp_path), parse_request(["recipe=demo", *overrides]))
    assert list(tmp_path.iterdir()) == []


def test_make_gpu_without_a_gpu_is_one_sentence(tmp_path: Path) -> None:
    for name in ("nvidia-smi", "rocm-smi"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 9\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "gpu"], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 2
    sentence = "make gpu: neither nvidia-smi nor rocm-smi finds a GPU here; run it on a computer that has one."
    assert done.stderr.split("\n")[0] == sentence
