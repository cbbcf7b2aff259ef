"""A real Apptainer for tests, a base for its images, and a real registry.

Apptainer and base are made once and kept below the user's cache. A folder with Debian replaces the base image of a
registry.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kd.container import definitions

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd-tests"
SUITE = "bookworm"
# What containers/image/packages.sh would otherwise install in each build.
PACKAGES = "python3,python3-venv,python3-dev,g++,ca-certificates"


def path_with_apptainer() -> str:
    """Return a PATH with apptainer: the one of tests/system/apptainer/install.sh where the system has none."""
    path = os.pathsep.join([os.environ["PATH"], str(CACHE / "apptainer" / "bin")])
    found = shutil.which("apptainer", path=path)
    assert found, "Apptainer is not here, and tests/system/install.sh could not bring it: is Debian's mirror reached?"
    return path


def stand_in_base() -> Path:
    """Return a folder with a small Debian, made by debootstrap once for all runs of the tests on this machine."""
    base = CACHE / SUITE
    with _one_at_a_time(CACHE / f"{SUITE}.lock"):
        if not base.is_dir():
            aside = CACHE / f"{SUITE}.making"
            shutil.rmtree(aside, ignore_errors=True)
            command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(aside)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"debootstrap failed: is Debian's mirror reached?\n{done.stdout[-2000:]}"
            # Devices cannot be copied by who may not make any; packages have served.
            for doomed in [*aside.glob("dev/*"), *aside.glob("var/cache/apt/archives/*.deb")]:
                shutil.rmtree(doomed) if doomed.is_dir() and not doomed.is_symlink() else doomed.unlink()
            aside.rename(base)
    return base


def build_image(folder: Path) -> Path:
    """Build an image from kd-cpu.def and this checkout, by `kd container build`.

    Its packages are installed once for each lock: an image that has them is kept, and later builds start from it, as a
    user's do after a change of kd. The same script installs the difference, and the image runs its own test again.
    """
    parts = ["kd-cpu.def", "install.sh", "image/packages.sh", "locks/cpu.txt", "locks/fairseq.txt"]
    key = hashlib.sha256(b"".join((definitions.folder() / part).read_bytes() for part in parts)).hexdigest()[:16]
    kept = CACHE / f"packages-{key}.sif"
    base = kept if kept.exists() else stand_in_base()
    # Fast to write: it is used for minutes.
    fast = ["--", "--mksquashfs-args", "-comp lz4"]
    kd("container", "build", "cpu", "--base", str(base), *fast, path=path_with_apptainer(), cwd=folder)
    image = folder / "kd-cpu.sif"
    with _one_at_a_time(CACHE / "packages.lock"):
        if not kept.exists():
            for outdated in CACHE.glob("packages-*.sif"):
                outdated.unlink()
            shutil.copy(image, kept.with_suffix(".part"))
            kept.with_suffix(".part").rename(kept)
    return image


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a registry of images on this computer, without TLS; yield its host:port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address},
        "log": {"level": "error"},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = ["docker-registry", "serve", str(folder / "registry.yml")]
    with (folder / "registry.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while not _listens(address):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "registry.log").read_text()
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def kd(*arguments: str, path: str, cwd: Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a `kd` command with that PATH."""
    environment = {**os.environ, "PATH": path, "COLUMNS": "200", **variables}
    command = [sys.executable, "-m", "kd", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done
