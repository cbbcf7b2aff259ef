"""Lets pip inside a build be configured as it is out here: the user's indexes, folders of wheels, certificates, cache.

On a cluster they are what makes an installation possible at all; a build would otherwise know nothing of them.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

# A build can bind only to what is there in its base, and this empty folder is in every Linux. Definitions look there.
INSIDE = Path("/mnt")
CONFIG = "pip.conf"
DOWNLOADS = "http-v2"
# Of out here alone.
_LEFT_OUT = {"cache-dir", "target", "prefix", "user", "root", "require-virtualenv", "python", "log"}
_PIP = [sys.executable, "-I", "-m", "pip"]


def write_settings(folder: Path) -> list[str]:
    """Puts pip's settings of out here into a folder; returns the binds that bring it and what they name into a build.

    Settings are those that `pip config list` shows: of the system, the user and variables, the last of which win. The
    folder, bound to INSIDE, has a mount point for each file and folder that is named, and CONFIG names those.
    """
    folder.mkdir()
    binds = [f"{folder}:{INSIDE}"]

    def bring(path: Path) -> str:
        place = folder / str(len(binds))
        place.mkdir() if path.is_dir() else place.touch()
        inside = str(INSIDE / place.name)
        binds.append(f"{path}:{inside}")
        return inside

    settings = {name: _moved(value, bring) for name, value in read_settings().items()}
    # Of its cache what was downloaded, not what was compiled: that is for the libraries of out here.
    downloads = Path(_said("cache", "dir")) / DOWNLOADS
    if downloads.is_dir():
        (folder / "cache" / DOWNLOADS).mkdir(parents=True)
        binds.append(f"{downloads}:{INSIDE}/cache/{DOWNLOADS}")
        settings["cache-dir"] = [f"{INSIDE}/cache"]
    parser = configparser.RawConfigParser()
    parser["global"] = {name: "\n".join(words) for name, words in settings.items()}
    with (folder / CONFIG).open("w", encoding="utf-8") as file:
        parser.write(file)
    return binds


def read_settings() -> dict[str, str]:
    """Return the settings of pip outside of the container, by name."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in _said("config", "list").split("\n"):
        key, equals, value = line.partition("=")
        section, _, name = key.partition(".")
        if equals and section in rank and name not in _LEFT_OUT and rank[section] >= found.get(name, (0, ""))[0]:
            # It prints the repr of a string, in which the lines of a list are \n.
            found[name] = rank[section], value.strip("'\"").replace("\\n", " ")
    return {name: value for name, (_, value) in sorted(found.items())}


def _said(*arguments: str) -> str:
    return subprocess.run([*_PIP, *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _moved(value: str, bring: Callable[[Path], str]) -> list[str]:
    """A setting's words, with the files and folders among them that are there named by their places inside."""
    words = []
    for word in value.split():
        is_url = word.startswith("file:")
        path = Path(unquote(urlparse(word).path) if is_url else word)
        if path.is_absolute() and path.exists():
            # The links of an index lead to files beside it: the folder above is brought.
            words.append(f"file://{bring(path.parent)}/{path.name}" if is_url else bring(path))
        else:
            words.append(word)
    return words
