"""Run the measurements one after the other, each in a process of its own, within a limit on the time.

A measurement that fails, hangs or has no time left does not stop the others.
`python -m kd.doctor.bench.schedule FOLDER NAME` is the process of one measurement: it reads the setup from FOLDER and
writes its values there.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.base.processes import die_with_parent
from kd.base.records import plain, record
from kd.base.world import take_gpu
from kd.doctor.bench import decoding, memory, training
from kd.doctor.bench.results import Measurement, State
from kd.doctor.bench.setup import BIG, STUDENT, NotMeasured, Setup, Values
from kd.launch.environment import environment

SETUP = "setup.json"
_NOT_MEASURED = "not measured"  # key of a measurement's file, with the reason
_FAILED = "failed"
_END_SECONDS = 5.0  # of the limit, for the page
_NO_TIME = "No time was left."
_LONGEST_LINE = 300  # characters of an error


@dataclass(frozen=True)
class Step:
    """A measurement to run.

    Attributes:
        name: Its name in the results.
        run: Its function.
        seconds: Duration on a GPU; with less time left it is not started. A guess, since no GPU was at hand.
        every_gpu: Whether it uses all GPUs of the computer. The others see one only: fairseq would use all.
    """

    name: str
    run: Callable[[Setup], Values]
    seconds: float
    every_gpu: bool = False


def steps(setup: Setup) -> list[Step]:
    """Return the measurements for a device, the most informative first."""
    usual, *others = setup.precisions
    first = [_training(model, usual) for model in (BIG, STUDENT)]
    return [
        *first,
        Step("resume", training.resume, 60.0),
        Step("out of memory", memory.recovery, 40.0),
        Step("ensemble", decoding.ensemble, 80.0),
        Step("ctranslate2", decoding.ctranslate2, 40.0),
        Step("communication", training.communication, 30.0, every_gpu=True),
        Step("scaling", training.scaling, 45.0, every_gpu=True),
        *(_training(model, precision) for precision in others for model in (BIG, STUDENT)),
    ]


def _training(model: str, precision: str) -> Step:
    run = functools.partial(training.speed, model=model, precision=precision)
    return Step(f"training {model} {precision}", run, 45.0)


def measure(
    setup: Setup, seconds: float, report: Callable[[Measurement], None], chosen: Sequence[Step] | None = None
) -> list[Measurement]:
    """Run the measurements within a number of seconds; the expected duration counts on a GPU only.

    Args:
        setup: The device and the sizes; its folder has vocabulary and data.
        seconds: Limit on all of them together.
        report: Called with each result.
        chosen: The measurements; all of them by default.
    """
    deadline = time.monotonic() + seconds - _END_SECONDS
    write_json(setup.folder / SETUP, plain(setup))
    found = []
    for step in steps(setup) if chosen is None else chosen:
        needed = 0.0 if setup.device == "cpu" else step.seconds
        left = deadline - time.monotonic()
        if left <= needed:
            result = Measurement(step.name, State.not_measured, _NO_TIME)
        else:
            result = _in_a_process(setup, step.name, left)
        found.append(result)
        report(result)
    return found


def _in_a_process(setup: Setup, name: str, limit: float) -> Measurement:
    answer = setup.folder / "answer.json"
    answer.unlink(missing_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-P", "-m", "kd.doctor.bench.schedule", str(setup.folder), name, str(os.getpid())]
    log = setup.folder / "log"
    with log.open("wb") as output:
        try:
            subprocess.run(
                command,
                env={**os.environ, **environment(setup.threads)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            reason = f"It had not ended after {limit:.0f} s, when the time was up."
            return Measurement(name, State.failed, reason, time.monotonic() - began)
    seconds = time.monotonic() - began
    if not answer.is_file():
        return Measurement(name, State.failed, _last_line(log), seconds)
    content = json.loads(answer.read_text("utf-8"))
    for state, key in ((State.not_measured, _NOT_MEASURED), (State.failed, _FAILED)):
        if key in content:
            return Measurement(name, state, content[key], seconds)
    return Measurement(name, State.measured, "", seconds, content["values"])


def answer_of(step: Step, setup: Setup) -> Values:
    """Run a measurement in a process of its own; return the values, or the reason for having none, that it writes."""
    try:
        return {"values": step.run(setup)}
    except NotMeasured as reason:
        return {_NOT_MEASURED: str(reason)}
    except UserError as error:
        return {_FAILED: error.problem}
    except Exception as error:  # whatever a driver or a library raises: the other measurements go on
        return {_FAILED: _summary(f"{type(error).__name__}: {error}")}


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").split("\n") if line.strip()]
    return _summary(f"Its process ended: {lines[-1]}" if lines else "Its process ended without a message.")


def _summary(text: str) -> str:
    """Return an error's first line, and its last one, where a traceback has its reason."""
    lines = [" ".join(line.split())[:_LONGEST_LINE] for line in text.split("\n") if line.strip()]
    return " … ".join([lines[0], *lines[-1:]] if len(lines) > 1 else lines)


def main(folder: Path, name: str) -> None:
    """Run one measurement in this process."""
    setup = record(Setup, json.loads((folder / SETUP).read_text("utf-8")), SETUP)
    (step,) = [each for each in steps(setup) if each.name == name]
    if setup.device != "cpu" and not step.every_gpu:
        take_gpu(0)
    write_json(folder / "answer.json", answer_of(step, setup))


if __name__ == "__main__":
    die_with_parent(int(sys.argv[3]))
    main(Path(sys.argv[1]), sys.argv[2])
