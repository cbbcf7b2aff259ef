"""The process of a probe, and the probes that are kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

from kd.base.files import write_json
from kd.base.records import plain
from kd.planning.probe import Probe, kept_probes
from kd.planning.rates import Observation
from kd.planning.shortening import Size, shortened
from kd.recipe.schema import ExportConfig


def test_the_process_of_a_probe_ends_when_the_command_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")  # to which nothing is written: it waits, as a long measurement would
    probe = [sys.executable, "-P", "-m", "kd.planning.probe_worker", str(tmp_path)]
    start = f"import os, subprocess; subprocess.run([*{probe!r}, str(os.getpid())])"
    with subprocess.Popen([sys.executable, "-c", start]) as command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        while not (found := children.read_text("ascii").split()):
            time.sleep(0.05)
        while (writer := opened(tmp_path / "request.json")) is None:  # nobody reads yet
            assert command.poll() is None
            time.sleep(0.05)
        command.kill()
    deadline = time.monotonic() + 30
    while (alive := Path(f"/proc/{found[0]}").exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(writer)
    assert not alive


def test_an_export_of_random_weights_is_measured_whether_or_not_it_agrees_with_fairseq() -> None:
    shortest = shortened(ExportConfig(formats={"float32": True}), Size(Path(), 1.0, 400, 100, 32, 32))
    assert shortest.least_agreement == 0
    assert shortest.compare == ExportConfig(formats={}).compare, "the comparison takes its time all the same"


def opened(pipe: Path) -> int | None:
    """The end of a pipe that is written to; None while nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO
        return None


def test_a_kept_probe_is_read_again_and_files_of_another_format_are_ignored(tmp_path: Path) -> None:
    seen = Observation("train", 100.0, 2.5, 4.0, None, "laptop", "cpu", 2, "probe on here", probed=True)
    probe = Probe("mine", "laptop", "here", "2026-11-30 12:00", "some text", None, {"source_tokens": 12.5}, (seen,))
    write_json(tmp_path / "a.json", plain(probe))
    write_json(tmp_path / "b.json", {"version": 3, **plain(probe)})
    (tmp_path / "c.json").write_text("[", "utf-8")
    assert kept_probes(tmp_path) == [probe]
