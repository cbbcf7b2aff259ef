"""Puts a task's command line inside a container image, where `machine.container` names one.

The image's own Python and kd run there; run folder, store, corpora and scratch stand at the same paths as outside.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.hashing import FileHashes
from kd.launch.environment import command
from kd.pipeline.model import Task
from kd.pipeline.store import Store

RUNTIMES = ("apptainer", "singularity")  # the same program under its new and its old name; the new one first
PYTHON = "python"  # of the image: the first on its PATH
# What a task reads from its environment to write into its manifest which image it ran in.
IMAGE, IMAGE_DIGEST = "KD_CONTAINER", "KD_CONTAINER_SHA256"
# Where libraries keep things for later, below a folder of the run: an image is read-only. They are set one by one: the
# environment that an image makes does not see what is set outside, and wins over it.
_CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
# Of the host's Python: the image's must not import what they lead to. Home is in the image too, and so is ~/.local.
_NOT_THE_HOSTS = {"PYTHONPATH": "", "PYTHONHOME": "", "VIRTUAL_ENV": "", "PYTHONNOUSERSITE": "1"}
# An image has these of its own: laid over them, the host's would break it.
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/opt/kd")
# What makes downloads work behind a proxy with certificates of its own, or from a mirror: an image has others, or none.
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_PIP_SETTINGS = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf")
_WILDCARD = re.compile(r"[*?\[{]")


def wrap(
    machine: Mapping[str, Any],
    argv: list[str],
    *,
    binds: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    runtime: str | None = None,
) -> list[str]:
    """The command line that runs `argv` inside the machine's image; `argv` itself where the machine names none.

    machine: its facts, of which container, container_flags, binds and modules count. argv: where it begins with the
    Python that runs this, the image's Python takes its place. binds: folder out here -> where it is in there, besides
    machine.binds. environment: variables to set in there; all that is set out here is set in there as well, but for
    what leads to the host's Python packages. runtime: the program, where it is known; otherwise what PATH has.

    Raises UserError where no container runtime is there, or no image.
    """
    if not machine.get("container"):
        return argv
    image = Path(str(machine["container"])).absolute()
    if not image.exists():
        raise UserError(f"machine.container names {image}, which does not exist.", "Build it by `kd container build`.")
    inner = [PYTHON, *argv[1:]] if argv[0] == sys.executable else argv
    bound = {**binds, **(machine.get("binds") or {})}
    for text in (item for pair in bound.items() for item in pair):
        if ":" in text or "," in text:
            raise UserError(f"The folder {text} cannot be bound into a container.", "Its name must hold no : and no ,.")
    variables = {**_NOT_THE_HOSTS, **(environment or {})}
    here = Path.cwd()
    stand = ["--pwd", str(here)] if any(Path(out) in (here, *here.parents) for out in bound) else []
    return [
        runtime or find_runtime(machine),
        "--quiet",  # else each task's log begins with what the host lacks and nobody asked for
        "exec",
        *(_flag(name) for name, wanted in (machine.get("container_flags") or {}).items() if wanted),
        *(part for pair in sorted(bound.items()) for part in ("--bind", ":".join(dict.fromkeys(pair)))),
        *(part for pair in variables.items() for part in ("--env", "=".join(pair))),
        *stand,
        str(image),
        *inner,
    ]


def find_runtime(machine: Mapping[str, Any] | None = None) -> str:
    """The container runtime on PATH; where modules bring it on compute nodes alone, its name. Raises UserError."""
    for name in RUNTIMES:
        if shutil.which(name):
            return name
    for module in (machine or {}).get("modules") or {}:
        for name in RUNTIMES:
            if name in str(module).lower():
                return name
    raise UserError(
        "Neither apptainer nor singularity is on PATH.", "Install Apptainer, or load the module that has it."
    )


def binds(config: Mapping[str, Any], *paths: Path) -> dict[str, str]:
    """The folders that a task of a resolved config needs, each bound to where it is out here.

    They are those of `paths` (run, store, raw files), where the user stands, TMPDIR, and all that the config names by
    an absolute path: corpora, given models, caches. What the image has of its own (/usr …) is left out, but for the
    certificates that variables name and pip's settings: with them a download works in there as it does out here.
    """
    places = [Path.cwd(), *paths, Path(os.environ.get("TMPDIR") or "/tmp"), *_paths(config)]
    found: set[Path] = set()
    for spelling in (spelling for path in places for spelling in (path.absolute(), path.resolve())):
        folder = _existing_folder(spelling)
        if folder is not None and not any(folder == Path(top) or Path(top) in folder.parents for top in _SYSTEM):
            found.add(folder)
    named = [os.environ.get(name, "") for name in _CERTIFICATES] + list(_PIP_SETTINGS)
    found |= {Path(name) for name in named if name.startswith("/") and Path(name).is_file()}
    return {str(path): str(path) for path in sorted(found) if not found.intersection(path.parents)}


def facts(image: Path, hashes: FileHashes) -> dict[str, str]:
    """What stands in a manifest of an image: {"path", "sha256"}; an image that is a folder has no digest."""
    return {"path": str(image), "sha256": hashes(image) if image.is_file() else ""}


class Commands:
    """Makes the command lines of a run's tasks, inside the machine's image or not: what launchers start.

    config: the run's, resolved. run, store: their folders. files: raw files that tasks read. Raises UserError where
    the image or what runs it is missing.
    """

    def __init__(self, config: Mapping[str, Any], run: Path, store: Store, files: Iterable[Path] = ()) -> None:
        self._machine: Mapping[str, Any] = config.get("machine") or {}
        self._environment: dict[str, str] = {}
        self._binds: dict[str, str] = {}
        if self._machine.get("container"):
            find_runtime(self._machine)  # before anything is read
            about = facts(Path(str(self._machine["container"])).absolute(), store.file_hashes())
            cache = run.absolute() / "cache"
            caches = {name: str(cache / folder) for name, folder in _CACHES.items()}
            self._environment = {IMAGE: about["path"], IMAGE_DIGEST: about["sha256"], **caches}
            self._binds = binds(config, run, store.root, *files)

    def __call__(self, task: Task, frozen: str, run: Path) -> list[str]:
        """The command line of a task."""
        return self.wrap(command(task, frozen, run))

    def wrap(self, argv: list[str]) -> list[str]:
        """Any command line, put inside the image where there is one."""
        return wrap(self._machine, argv, binds=self._binds, environment=self._environment)


def _flag(name: str) -> str:
    return name if name.startswith("-") else f"--{name}"


def _paths(value: object) -> Iterator[Path]:
    """All absolute paths in a config; the machine's own are not for the inside."""
    if isinstance(value, Mapping):
        items: Iterable[object] = (item for key, item in value.items() if key != "machine")
    elif isinstance(value, list | tuple):
        items = value
    else:
        if isinstance(value, str) and value.startswith("/"):
            yield Path(value)
        return
    for item in items:
        yield from _paths(item)


def _existing_folder(path: Path) -> Path | None:
    """The folder that has to be bound for a path; None if there is none, or it is the root."""
    wild = _WILDCARD.search(str(path))
    if wild:  # corpus.*.gz, {source}.txt: all of that folder
        path = Path(str(path)[: wild.start()].rpartition("/")[0] or "/")
    while not path.is_dir():
        path = path.parent
    return None if path == path.parent else path
