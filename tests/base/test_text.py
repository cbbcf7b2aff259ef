"""Durations, sizes, suggestions and the last lines of a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base import text


@pytest.mark.parametrize(
    ("seconds", "formatted"),
    [
        (0, "0.0 s"),
        (3.2, "3.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (252, "4 min 12 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (172_800, "2 d 00 h"),
        (273_600, "3 d 04 h"),
    ],
)
def test_a_duration_is_given_in_its_two_largest_units(seconds: float, formatted: str) -> None:
    assert text.duration(seconds) == formatted


@pytest.mark.parametrize(
    ("number", "formatted"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1.5e4, "15.0 kB"),
        (2.5e7, "25.0 MB"),
        (1.2e8, "120 MB"),
        (999_600_000, "1.0 GB"),
        (4.2e12, "4.2 TB"),
    ],
)
def test_a_size_is_given_in_decimal_units(number: float, formatted: str) -> None:
    assert text.size(number) == formatted


def test_the_nearest_known_name_is_suggested() -> None:
    known = ["teacher", "student", "students"]
    assert text.did_you_mean("techer", known) == "Did you mean teacher?"
    assert text.did_you_mean("studentz", known, count=2) == "Did you mean student or students?"
    assert text.did_you_mean("xyz", known) == ""
    error = text.unknown_name("stage", "xyz", known)
    assert (error.problem, error.hint) == ("There is no stage called xyz.", "There are: student, students, teacher.")
    assert text.unknown_name("stage", "xyz", []).hint == "There are: none."


def test_the_last_lines_of_a_log_hold_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert text.last_lines(log, 2) == []
    log.write_bytes(b"")
    assert text.last_lines(log, 2) == []
    log.write_bytes(b"one\n 10%\r 50%\r100%\r\nthree \xff\n\n")
    assert text.last_lines(log, 2) == ["100%", "three \ufffd"]
