"""Define the result of a check: a line with ok, warning or error, and a remedy below it.

The nodes of a job pass their findings to the login node as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.text import Text

Level = Literal["ok", "warning", "error"]
_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@dataclass(frozen=True)
class Finding:
    """Result of one check. `hint` is the remedy; empty if all is well."""

    level: Level
    subject: str
    message: str
    hint: str = ""


def ok(subject: str, message: str) -> Finding:
    """Return a finding for a check that passed."""
    return Finding("ok", subject, message)


def warning(subject: str, message: str, hint: str) -> Finding:
    """Return a finding for a problem that makes runs slow or may make them fail later."""
    return Finding("warning", subject, message, hint)


def error(subject: str, message: str, hint: str) -> Finding:
    """Return a finding for a problem that makes runs fail."""
    return Finding("error", subject, message, hint)


def show(findings: Iterable[Finding], console: Console, where: str = "") -> None:
    """Print findings, each prefixed with `where`."""
    for finding in findings:
        head = Text(f"{finding.level:8}", style=_STYLES[finding.level])
        console.print(head + Text(f"{where}{finding.subject}: {finding.message}"), soft_wrap=True)
        if finding.hint:
            console.print(Text(f"{'':8}→ {finding.hint}"), soft_wrap=True)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return 1 if there is an error, else 0, even with warnings."""
    return int(any(finding.level == "error" for finding in findings))
