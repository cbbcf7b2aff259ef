"""Run a task's command line inside a container image if `machine.container` names one.

The image has its own Python and kd; run folder, store, corpora and scratch keep their paths inside.
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

RUNTIMES = ("apptainer", "singularity")  # the new and the old name of one program, in order of preference
PYTHON = "python"  # of the image: the first on its PATH
# A task records in its manifest, from these variables, which image it ran in.
IMAGE, IMAGE_DIGEST = "KD_CONTAINER", "KD_CONTAINER_SHA256"
# Caches of libraries, moved below a folder of the run, since an image is read-only. They are set by --env: variables of
# an image override those of the host.
_CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}
# Keeps packages of the host's Python out of the image's, including ~/.local: home is visible inside the image.
_NOT_THE_HOSTS = {"PYTHONPATH": "", "PYTHONHOME": "", "VIRTUAL_ENV": "", "PYTHONNOUSERSITE": "1"}
# Folders that an image has itself: binding the host's over them would break it.
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/opt/kd")
# Certificates and mirrors that downloads need behind a proxy; an image has others, or none.
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
    """Return the command line that runs `argv` inside the machine's image; `argv` itself if it has no image.

    Args:
        machine: Settings of the machine; container, container_flags, binds and modules are used.
        argv: If it begins with this process's Python, the image's Python replaces it.
        binds: Folder outside -> folder inside, besides machine.binds.
        environment: Variables to set inside, besides those of this process. Variables that point to the host's Python
            packages are cleared.
        runtime: The container program; by default the one on PATH.

    Raises:
        UserError: There is no container runtime, or no image.
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
            raise UserError(
                f"The folder {text} cannot be bound into a container.",
                "Rename it: a path with `:` or `,` cannot be bound.",
            )
    variables = {**_NOT_THE_HOSTS, **(environment or {})}
    here = Path.cwd()
    stand = ["--pwd", str(here)] if any(Path(out) in (here, *here.parents) for out in bound) else []
    return [
        runtime or find_runtime(machine),
        "--quiet",  # else each task's log begins with warnings about the host
        "exec",
        *(_flag(name) for name, wanted in (machine.get("container_flags") or {}).items() if wanted),
        *(part for pair in sorted(bound.items()) for part in ("--bind", ":".join(dict.fromkeys(pair)))),
        *(part for pair in variables.items() for part in ("--env", "=".join(pair))),
        *stand,
        str(image),
        *inner,
    ]


def find_runtime(machine: Mapping[str, Any] | None = None) -> str:
    """Return the container runtime on PATH, or the one that the machine's modules provide on compute nodes.

    Raises:
        UserError: There is no runtime in either place.
    """
    for name in RUNTIMES:
        if shutil.which(name):
            return name
    for module in (machine or {}).get("modules") or {}:
        for name in RUNTIMES:
            if name in str(module).lower():
                return name
    nodes = " If only compute nodes have one, name it: '+machine.modules={Apptainer/VERSION: true}'."
    raise UserError(
        "Neither apptainer nor singularity is on PATH.",
        f"Install Apptainer, or load its module.{'' if machine is None else nodes}",
    )


def binds(config: Mapping[str, Any], *paths: Path) -> dict[str, str]:
    """Return the folders that a task of a resolved config needs, each bound to the same path inside.

    These are the folders of `paths` (run, store, raw files), the current folder, TMPDIR, and every absolute path in the
    config: corpora, given models, caches. Folders that every image has (/usr …) are left out. Certificates named by
    variables and pip's settings are included, so that downloads also work inside.
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
    """Return an image's entry in manifests: {"path", "sha256"}; the digest is empty if the image is a folder."""
    return {"path": str(image), "sha256": hashes(image) if image.is_file() else ""}


class Commands:
    """Make the command lines of a run's tasks, inside the machine's image if it has one.

    Args:
        config: The run's resolved config.
        run: The run's folder.
        store: The store.
        files: Raw files that tasks read.

    Raises:
        UserError: The image is missing, or there is no container runtime where the tasks run.
    """

    def __init__(self, config: Mapping[str, Any], run: Path, store: Store, files: Iterable[Path] = ()) -> None:
        self._machine: Mapping[str, Any] = config.get("machine") or {}
        self._environment: dict[str, str] = {}
        self._binds: dict[str, str] = {}
        self._runtime: str | None = None
        if self._machine.get("container"):
            here = (config.get("launcher") or {}).get("kind", "local") == "local"
            self._runtime = find_runtime(None if here else self._machine)  # before files are read
            about = facts(Path(str(self._machine["container"])).absolute(), store.file_hashes())
            cache = run.absolute() / "cache"
            caches = {name: str(cache / folder) for name, folder in _CACHES.items()}
            self._environment = {IMAGE: about["path"], IMAGE_DIGEST: about["sha256"], **caches}
            self._binds = binds(config, run, store.root, *files)

    def __call__(self, task: Task, frozen: str, run: Path) -> list[str]:
        """Return the command line of a task."""
        return self.wrap(command(task, frozen, run))

    def here(self, task: Task, frozen: str, run: Path) -> list[str]:
        """Return the command line for running a task on this computer.

        On a login node without a container runtime, the task runs outside the image: only tasks that need the network
        run there, and downloads do not depend on the image.
        """
        return self(task, frozen, run) if self.runs_here() else command(task, frozen, run)

    def runs_here(self) -> bool:
        """Return whether this computer can run the image, or no image is set."""
        return self._runtime is None or shutil.which(self._runtime) is not None

    def wrap(self, argv: list[str]) -> list[str]:
        """Wrap any command line to run inside the image if there is one."""
        return wrap(self._machine, argv, binds=self._binds, environment=self._environment, runtime=self._runtime)


def _flag(name: str) -> str:
    return name if name.startswith("-") else f"--{name}"


def _paths(value: object) -> Iterator[Path]:
    """Yield all absolute paths in a config except the machine's own."""
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
    """Return the folder to bind for a path; None if that is the root folder."""
    wild = _WILDCARD.search(str(path))
    if wild:  # corpus.*.gz, {source}.txt: the whole folder
        path = Path(str(path)[: wild.start()].rpartition("/")[0] or "/")
    while not path.is_dir():
        path = path.parent
    return None if path == path.parent else path
