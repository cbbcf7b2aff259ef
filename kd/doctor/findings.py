"""What a look at the machine found: a line with ok, warning or error, and below it how to mend it.

Findings travel from the nodes of a job to the login node as JSON.
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
    """One thing that was looked at. `mend`: what to do about it; empty where all is well."""

    level: Level
    subject: str
    said: str
    hint: str = ""


def ok(subject: str, said: str) -> Finding:
    """As it should be."""
    return Finding("ok", subject, said)


def warning(subject: str, said: str, hint: str) -> Finding:
    """Runs will do, but badly."""
    return Finding("warning", subject, said, hint)


def error(subject: str, said: str, hint: str) -> Finding:
    """Runs will fail."""
    return Finding("error", subject, said, hint)


def show(findings: Iterable[Finding], console: Console, where: str = "") -> None:
    """Prints findings, `where` in front of each."""
    for finding in findings:
        head = Text(f"{finding.level:8}", style=_STYLES[finding.level])
        console.print(head + Text(f"{where}{finding.subject}: {finding.said}"), soft_wrap=True)
        if finding.hint:
            console.print(Text(f"{'':8}→ {finding.hint}"), soft_wrap=True)


def exit_status(findings: Iterable[Finding]) -> int:
    """1 where there is an error; warnings alone are 0."""
    return int(any(finding.level == "error" for finding in findings))
