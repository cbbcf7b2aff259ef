"""Lets pip inside a build be configured as it is out here: the user's indexes, folders of wheels, certificates, cache.

On a cluster they are what makes an installation possible at all; a build would otherwise know nothing of them.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

INSIDE = "/etc/pip.conf"
# Of out here alone.
_LEFT_OUT = {"cache-dir", "target", "prefix", "user", "root", "require-virtualenv", "python", "log"}


def write_settings(path: Path) -> list[str]:
    """Writes pip's settings of out here to a file; returns the binds that bring it and what it names into a build.

    Settings are those that `pip config list` shows: of the system, the user and variables, the last of which win.
    """
    settings = read_settings()
    if not settings:
        return []
    parser = configparser.RawConfigParser()
    parser["global"] = {name: "\n".join(value.split()) for name, value in settings.items()}
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)
    return [f"{path}:{INSIDE}", *(f"{named}:{named}:ro" for named in sorted(_paths(settings)))]


def read_settings() -> dict[str, str]:
    """pip's settings out here, by name."""
    command = [sys.executable, "-I", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listed.split("\n"):
        key, equals, value = line.partition("=")
        section, _, name = key.partition(".")
        if equals and section in rank and name not in _LEFT_OUT and rank[section] >= found.get(name, (0, ""))[0]:
            found[name] = rank[section], value.strip("'\"")
    return {name: value for name, (_, value) in sorted(found.items())}


def _paths(settings: dict[str, str]) -> set[str]:
    """Files and folders that settings name and that are there."""
    named = set()
    for value in settings.values():
        for word in value.split():
            path = unquote(urlparse(word).path) if word.startswith("file:") else word
            if Path(path).is_absolute() and Path(path).exists():
                # An index beside its files: links in it lead there.
                named.add(path if not word.startswith("file:") else str(Path(path).parent))
    return named
