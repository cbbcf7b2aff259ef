"""Pass the user's pip settings into a build: indexes, folders of wheels, certificates, cache.

Behind a proxy or a mirror, as on many clusters, an installation fails without them.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

# A build can bind only to a folder that its base has; every Linux has this empty one. Definitions look there.
INSIDE = Path("/mnt")
CONFIG = "pip.conf"
DOWNLOADS = "http-v2"
# Settings that hold on this computer only.
_LEFT_OUT = {"cache-dir", "target", "prefix", "user", "root", "require-virtualenv", "python", "log"}
_PIP = [sys.executable, "-I", "-m", "pip"]


def write_settings(folder: Path) -> list[str]:
    """Write pip's settings into a folder; return the binds for this folder and for the files that the settings name.

    The settings are those that `pip config list` prints: of the system, the user and environment variables; later ones
    win. The folder is bound to INSIDE and has a mount point for each file and folder that a setting names; CONFIG has
    the new paths.
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
    # Only the downloads of its cache: compiled wheels fit the libraries of this computer.
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
    """Return pip's settings outside the container, by name."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in _said("config", "list").split("\n"):
        key, equals, value = line.partition("=")
        section, _, name = key.partition(".")
        if equals and section in rank and name not in _LEFT_OUT and rank[section] >= found.get(name, (0, ""))[0]:
            # pip prints the repr of a string, in which the lines of a list are separated by \n.
            found[name] = rank[section], value.strip("'\"").replace("\\n", " ")
    return {name: value for name, (_, value) in sorted(found.items())}


def _said(*arguments: str) -> str:
    return subprocess.run([*_PIP, *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _moved(value: str, bring: Callable[[Path], str]) -> list[str]:
    """Return a setting's words, with existing files and folders replaced by their paths inside."""
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
