"""Implement `kd container check`: the definition parses, shellcheck passes, and its pins are exact and up to date.

Apptainer itself parses the definition: it is run on a nonexistent source, which it reports only after parsing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kd.base.hashing import sha256
from kd.container import images, locks
from kd.container.definitions import Definition, Section
from kd.launch.container import RUNTIMES

NOWHERE = "parsed"  # no such bootstrap agent
_CONTENT = f"invalid build source {NOWHERE}"
# Without the warnings about files and shebangs that sections of a definition do not have.
_SHELLCHECK = ("--shell=sh", "--format=json", "--exclude=SC1090,SC1091,SC2148")
_PIN = re.compile(r"@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    good: bool | None  # None: a note


def check(definition: Definition) -> list[Finding]:
    """Return all findings about a definition."""
    return [*_parsed(definition), *_linted(definition), *_based(definition), *_locked(definition), *_built(definition)]


def parse_fault(runtime: str, path: Path) -> str | None:
    """Return the error of Apptainer's parser about a definition; None if it parses."""
    with TemporaryDirectory() as folder:
        arguments = ["--build-arg", f"BOOTSTRAP={NOWHERE}", "--build-arg", "BASE=nothing"]
        target = f"{folder}/image"
        command = [runtime, "build", "--sandbox", "--section", "none", *arguments, target, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if _CONTENT in done.stderr:
        return None
    lines = [line for line in done.stderr.split("\n") if "FATAL" in line] or [done.stderr.strip()]
    return re.sub(r"^.*FATAL:\s*", "", lines[-1])


def shell_faults(section: Section, shellcheck: str) -> list[str]:
    """Return shellcheck's faults in a section, one sentence each, with the line of the definition."""
    text = "\n".join(section.lines) + "\n"
    # Its status is 1 if it lists faults.
    done = subprocess.run([shellcheck, *_SHELLCHECK, "-"], input=text, capture_output=True, text=True, check=False)
    return [
        f"line {section.line + fault['line']}, {section.title}: {fault['message']} (SC{fault['code']})"
        for fault in json.loads(done.stdout)
    ]


def find_shellcheck() -> str | None:
    """Return the shellcheck on PATH, or the one in this Python's environment."""
    return shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))


def _parsed(definition: Definition) -> Iterator[Finding]:
    runtime = next(filter(shutil.which, RUNTIMES), None)
    if runtime is None:
        yield Finding("not parsed: neither apptainer nor singularity is on PATH", None)
        return
    fault = parse_fault(runtime, definition.path)
    yield Finding(f"{runtime} cannot parse it: {fault}" if fault else f"{runtime} parses it", fault is None)


def _linted(definition: Definition) -> Iterator[Finding]:
    shellcheck = find_shellcheck()
    if shellcheck is None:
        yield Finding("shell sections not linted: there is no shellcheck on PATH", None)
        return
    sections = definition.shell()
    faults = [fault for section in sections for fault in shell_faults(section, shellcheck)]
    yield from (Finding(fault, False) for fault in faults)
    if not faults:
        yield Finding(f"shellcheck finds nothing in {len(sections)} sections", True)


def _based(definition: Definition) -> Iterator[Finding]:
    bases = {stage.arguments.get("BASE", "") for stage in definition.stages}
    if len(bases) != 1:
        yield Finding(f"its stages begin with different bases: {', '.join(sorted(bases))}", False)
    elif _PIN.search(definition.base):
        yield Finding(f"base {definition.base}", True)
    else:
        yield Finding(f"base {definition.base} is a tag: `kd container pin {definition.name}` makes it a digest", None)


def _locked(definition: Definition) -> Iterator[Finding]:
    if not definition.lock.is_file():
        yield Finding(f"there is no lock {definition.lock}", False)
        return
    name, entries = definition.lock.name, list(locks.entries(definition.lock))
    faults = [f"{name} does not pin {entry.requirement}" for entry in entries if not entry.pin]
    faults += [f"{name} has no hash for {entry.requirement}" for entry in entries if entry.pin and not entry.hashes]
    yield from (Finding(fault, False) for fault in faults)
    if not faults:
        yield Finding(f"{name} has {len(entries)} packages, each with one version and its hashes", True)
    if not any(f"install.sh /opt/kd {definition.name} " in line for part in definition.shell() for line in part.lines):
        yield Finding(f"it does not install {definition.lock.name}", False)


def _built(definition: Definition) -> Iterator[Finding]:
    image = images.default_image(definition.name)
    if not image.exists():
        return
    record = images.read_record(image)
    if record is None:
        yield Finding(f"{image} has no record beside it: its origin is unknown", None)
        return
    if definition.lock.is_file() and record.lock_sha256 != sha256(definition.lock):
        yield Finding(f"{image} was built from another {record.lock}: build it again", False)
    elif record.sha256 != sha256(image):
        yield Finding(f"{image} is not the image that was built here on {record.created}", False)
    else:
        yield Finding(f"{image} was built from this lock on {record.created}, sha256 {record.sha256[:16]}…", True)
