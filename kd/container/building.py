"""Implement `kd container build`: make an image, and its record, from a definition and this checkout.

Missing requirements are reported before the build starts; the image gets its name after its `%test` has passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kd import __version__
from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.base.scratch import scratch_folder
from kd.container import needs, pip
from kd.container.definitions import Definition
from kd.container.images import Record, write_record
from kd.launch.container import find_runtime

_VERSIONS = (
    "import json; from kd.base.software import versions; from kd.engines import PACKAGES; "
    "print(json.dumps(versions(PACKAGES)))"
)
_NOT_THE_HOSTS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # variables that lead to the packages of this Python
# Prefixes of lines that show a build's progress, and parts of lines that every build prints.
_TELLING = ("INFO:", "WARNING:", "FATAL:", "  ", "packages.sh:", "install.sh:", "imported:", "trained and decoded:")
_NOISE = ("destination is already in the mount point list", "No default remote in use", "To see mksquashfs output")


@dataclass(frozen=True)
class Request:
    """The options of `kd container build`."""

    definition: Definition
    image: Path
    base: str | None = None  # an image, a folder or a reference to a registry; None: the definition's
    fakeroot: bool = False
    wheel: Path | None = None  # of kd; None: built from the checkout
    binds: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # passed to the runtime's `build`


def build(request: Request, tell: Callable[[str], None]) -> Record:
    """Build an image; return its record.

    Args:
        request: The options of the command.
        tell: Prints a line of progress; the complete output goes to IMAGE.log.

    Raises:
        UserError: A requirement is missing, or the build failed.
    """
    runtime = find_runtime()
    definition, image = request.definition, request.image.absolute()
    for note in needs.check(definition, image, runtime, fakeroot=request.fakeroot, local_base=_is_local(request.base)):
        tell(f"note: {note}")
    began, log = time.monotonic(), image.with_name(image.name + ".log")
    aside = image.with_name(f".{image.name}.{os.getpid()}")
    with _context(definition, request.wheel) as (context, revision):
        settings = pip.write_settings(context / "pip")
        binds = [*request.binds, *settings]
        command = [
            *(runtime, "build", "--force"),
            *(["--fakeroot"] if request.fakeroot else []),
            *(part for bind in binds for part in ("--bind", bind)),
            *(part for pair in _arguments(request, revision).items() for part in ("--build-arg", "=".join(pair))),
            *request.options,
            *(str(aside), f"containers/{definition.path.name}"),
        ]
        tell(f"building {image} with {runtime}; its output is in {log}")
        try:
            status = _run(command, context, log, tell)
            if status != 0 or not aside.exists():
                raise UserError(f"{runtime} did not build {image} (status {status}): {_last(log)}", f"See {log}.")
            versions = _versions(runtime, aside)
            aside.replace(image)
        finally:
            aside.unlink(missing_ok=True)
    record = Record(
        definition=definition.name,
        definition_sha256=sha256(definition.path),
        lock=definition.lock.name,
        lock_sha256=sha256(definition.lock),
        base=request.base or definition.base,
        versions=versions,
        kd=__version__,
        revision=revision,
        sha256=sha256(image),
        bytes=image.stat().st_size,
        runtime=_output([runtime, "--version"]),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
    )
    write_record(image, record)
    return record


def _arguments(request: Request, revision: str) -> dict[str, str]:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    arguments = {"VERSION": __version__, "REVISION": revision, "CREATED": created}
    if request.base:
        scheme, colon, rest = request.base.partition("://")
        if _is_local(request.base):
            base = ("localimage", str(Path(request.base).absolute()))
        else:
            base = (scheme, rest) if colon else ("docker", request.base)
        arguments["BOOTSTRAP"], arguments["BASE"] = base
    return arguments


def _is_local(base: str | None) -> bool:
    return base is not None and Path(base).exists()


@contextmanager
def _context(definition: Definition, wheel: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield a folder with the files that definitions copy (containers/, dist/kd-….whl) and the checkout's revision."""
    source = definition.path.parent
    checkout = source.parent
    with scratch_folder("kd-container-") as folder:
        ignored = shutil.ignore_patterns("*.sif*", "__pycache__")
        shutil.copytree(source, folder / "containers", ignore=ignored)
        (folder / "dist").mkdir()
        if wheel is not None:
            if not wheel.is_file():
                raise UserError(f"There is no wheel {wheel}.", "Give the path of one to --wheel.")
            shutil.copy(wheel, folder / "dist")
        elif (checkout / "pyproject.toml").is_file():
            build_wheel(checkout, folder / "dist")
        else:
            raise UserError(
                "This kd is installed without its sources.", "Give its wheel by --wheel, or use a checkout."
            )
        yield folder, _revision(checkout)


def build_wheel(checkout: Path, out: Path) -> None:
    """Build kd's wheel from a checkout into a folder; raise UserError if that fails."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    done = subprocess.run([*command, str(out), str(checkout)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"kd's wheel cannot be built: {done.stderr.strip().split(chr(10))[-1]}")


def _revision(checkout: Path) -> str:
    git = ["git", "-C", str(checkout)]
    revision = _output([*git, "rev-parse", "HEAD"]) if (checkout / ".git").exists() else ""
    if not revision:
        return "unknown"
    return f"{revision}-dirty" if _output([*git, "status", "--porcelain"]) else revision


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _run(command: list[str], folder: Path, log: Path, tell: Callable[[str], None]) -> int:
    """Run the build; print its lines of progress and write all lines to the log. Return its exit status."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_THE_HOSTS}
    with (
        log.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.write(line)
                kept.flush()
                if line.startswith(_TELLING) and not any(noise in line for noise in _NOISE):
                    tell(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def _last(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").split("\n") if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"


def _versions(runtime: str, image: Path) -> dict[str, str]:
    done = subprocess.run([runtime, "exec", str(image), "python", "-c", _VERSIONS], capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"Nothing runs in the image: {done.stderr.strip().split(chr(10))[-1]}")
    return dict(json.loads(done.stdout))
