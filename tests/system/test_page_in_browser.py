"""The page in a real browser: its script runs, nothing is complained of, and no request leaves it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

# One worker for all that look at the finished run, so that it is made once.
pytestmark = [pytest.mark.system, pytest.mark.xdist_group("tiny")]

# A browser that is as quiet as it can be; without a network its own background requests would fill the log.
CHROMIUM = [
    "chromium", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000",
]  # fmt: skip


def opened(page: Path, profile: Path) -> tuple[str, str]:
    """The document after its scripts ran, and what the browser logged."""
    # Chromium's sandbox refuses to run as root, as which CI runs.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*CHROMIUM, *sandbox, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


def test_the_page_of_a_run_opens_without_a_complaint(finished: Workplace, tmp_path: Path) -> None:
    page = (finished.run / "report" / "all" / "index.html").resolve()
    document, log = opened(page, tmp_path)
    # The script turns the headings of the table into buttons: proof that the page's own policy lets it run.
    assert re.search(r'<th[^>]*><button type="button"', document)
    assert "teacher ensemble" in document
    assert "CONSOLE" not in log
    # Everything is in the file: nothing in it names another place to fetch from.
    assert not re.search(r'(?:src|href)="(?!#|data:)', document)
