"""Implement `kd bundle`: pack a run for a computer without a network, and verify bundles.

A bundle is a tar archive with the recipe, its raw files, all finished artifacts, wheels, an image, a script that sets
everything up, and the checksums of all of these in the format of `sha256sum`.
"""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from kd.base import resources
from kd.base.errors import UserError
from kd.base.faults import disk_fault
from kd.base.hashing import sha256
from kd.base.scratch import scratch_folder
from kd.base.text import size
from kd.base.urls import mask_text
from kd.container.building import build_wheel
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.find import RECIPE_FILE

CHECKSUMS = "checksums.txt"
SETUP, RUN = "setup.sh", "run.sh"
TOP = "kd-bundle"  # folder that the archive unpacks into
BLOCK = 1 << 20  # bytes
_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")  # a key that can be overridden on the command line
_PLACES = ("corpus.root", "store.dir", "run.dir", "machine.container")  # settings that the bundle's script gives
_COPIES = ("machine.", "chain.")  # facts of this computer, and settings of stages, which repeat those of their groups

_SETUP = """\
#!/usr/bin/env bash
# Sets up the run in this folder, without a network; wants Python 3.11 or 3.12 (PYTHON=…) and g++ if there are wheels.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
sha256sum --check --quiet {checksums}
if [ -d wheels ]; then
    PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels containers/install.sh .venv {variant} --kd "$(ls wheels/kd-*.whl)"
elif ! command -v kd >/dev/null; then
    echo "setup.sh: this bundle has no wheels, and there is no kd on PATH: activate an environment that has it" >&2
    exit 2
fi
echo "Set up. Type: $PWD/{run}, with launcher=slurm and other settings as needed."
"""
_RUN = """\
#!/usr/bin/env bash
# Runs the recipe of this bundle; arguments are further settings.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
kd=kd
[ ! -x .venv/bin/kd ] || kd=$PWD/.venv/bin/kd
exec "$kd" run recipe={recipe} corpus.root=corpora store.dir=store run.dir=runs/{recipe} {settings} "$@"
"""


@dataclass
class _Bundle:
    """The members of a bundle: path inside -> file, or text."""

    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)  # of the run, quoted for bash

    def add(self, path: Path, inside: str) -> None:
        """Add a file, or all files of a folder; links are followed."""
        if path.is_dir():
            for item in sorted(path.rglob("*")):
                if item.is_file() and "__pycache__" not in item.parts:
                    self.add(item, f"{inside}/{item.relative_to(path).as_posix()}")
            return
        if "\n" in inside or "\\" in inside:
            raise UserError(f"The name of {path} contains a line break or a backslash.", "Rename it.")
        self.files[inside] = path

    def add_config(self, path: Path, inside: str) -> None:
        """Add a YAML file, as a text without secrets if it has URLs with secrets: a bundle is given away."""
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8.", "Save it as UTF-8.") from None
        if (masked := mask_text(text)) == text:
            self.add(path, inside)
        else:
            self.texts[inside] = masked


def bundle(request: Request, output: Path, *, variant: str | None) -> int:
    """Pack a run; return the exit status.

    Args:
        request: The recipe, the stages whose artifacts are packed (all by default), and settings.
        output: The file to write.
        variant: Lock whose wheels are packed (cpu, cuda); None: no wheels.

    Raises:
        UserError: A corpus is not collected yet, or a file cannot be packed.
    """
    console = Console(stderr=True, highlight=False)
    config = compose.compose(request)
    resolved = compose.resolve(config)
    plan, store = compose.plan(config), Store(Path(config.store.dir))
    packed = _Bundle()
    name = _add_recipe(packed, request)
    packed.settings += [
        shlex.quote(mask_text(text)) for text in request.overrides if text.lstrip("+").split("=")[0] not in _PLACES
    ]
    _add_files(packed, plan, resolved, store)
    _add_artifacts(packed, plan, store, request)
    if config.machine.container:
        image = Path(config.machine.container)
        packed.add(image, f"image/{image.name}")
        packed.settings.append(shlex.quote(f"machine.container=image/{image.name}"))
    with scratch_folder("kd-bundle-") as folder:
        if variant is not None:
            console.print(f"Downloading the wheels of {variant} …")
            wheels = folder / "wheels"
            _download_wheels(variant, wheels)
            packed.add(wheels, "wheels")
            packed.add(resources.folder("containers"), "containers")
        packed.texts[SETUP] = _SETUP.format(variant=variant, checksums=CHECKSUMS, run=RUN)
        packed.texts[RUN] = _RUN.format(recipe=shlex.quote(name), settings=" ".join(packed.settings))
        _write(packed, output, console)
    return 0


def check(path: Path) -> int:
    """Compare a bundle with its checksums; return the exit status.

    Raises:
        UserError: The file is damaged or incomplete, or is not a bundle.
    """
    expected: dict[str, str] = {}
    found: dict[str, str] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).relative_to(TOP).as_posix()
                stream = archive.extractfile(member)
                if not member.isfile() or stream is None:
                    raise UserError(f"{path} has {member.name}, which is not a file.", "Make the bundle again.")
                if name == CHECKSUMS:
                    lines = stream.read().decode("utf-8").split("\n")
                    expected = {line[66:]: line[:64] for line in lines if line}
                else:
                    digest = hashlib.sha256()
                    for block in iter(lambda stream=stream: stream.read(BLOCK), b""):  # type: ignore[misc]
                        digest.update(block)
                    found[name] = digest.hexdigest()
    except FileNotFoundError:
        raise UserError(f"There is no bundle {path}.", "Give the path of a file of `kd bundle --output`.") from None
    except (tarfile.TarError, ValueError, EOFError) as error:
        reason = str(error).partition(":\n")[0]  # tarfile goes on with a line for each compression that it has tried
        raise UserError(f"{path} is damaged, or is not a bundle: {reason}.", "Copy it again.") from None
    if not expected:
        raise UserError(f"{path} is incomplete: its checksums are missing.", "Copy it again.")
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = "is missing" if name not in found else "differs from the packed file"
            raise UserError(f"{path} is damaged: {name} {what}.", "Copy it again.")
    print(f"{path}: {len(found)} files match their checksums.")
    return 0


def _add_recipe(packed: _Bundle, request: Request) -> str:
    """Add the recipe and the user's own config files; return the recipe's name in the bundle."""
    path = compose.find(request.recipe)
    name = path.parent.name if path.name == RECIPE_FILE else path.stem
    if path.name == RECIPE_FILE:
        for item in sorted(path.parent.glob("*.y*ml")):
            packed.add_config(item, f"recipes/{name}/{item.name}")
    else:
        packed.add_config(path, f"recipes/{name}/{RECIPE_FILE}")
    for folder in ("conf", "recipes"):
        if Path(folder).is_dir():
            for item in sorted(Path(folder).rglob("*.y*ml")):
                if item.as_posix() not in {*packed.files, *packed.texts}:
                    packed.add_config(item, item.as_posix())
    return name


def _add_files(packed: _Bundle, plan: Plan, config: Mapping[str, Any], store: Store) -> None:
    """Add the raw files that tasks read, and other files and folders that the config names."""
    root = Path(config["corpus"]["root"])
    for path in {path for task in plan.tasks() for path in task.files}:
        if path.is_relative_to(root):
            packed.add(path, f"corpora/{path.relative_to(root).as_posix()}")
    places = [root, store.root, Path(config["run"]["dir"])]
    for key, path in _paths(config, ""):
        if key in _PLACES or key.startswith(_COPIES) or any(path.is_relative_to(place) for place in places):
            continue
        if path == Path.cwd() or key.endswith(".cache"):  # `root` by default; downloads are made anew
            continue
        if not _KEY.fullmatch(key):
            raise UserError(f"{path}, which the recipe names as {key}, cannot be packed.", f"Move it below {root}.")
        packed.add(path, f"files/{key}/{path.name}")
        packed.settings.append(shlex.quote(f"{key}=files/{key}/{path.name}"))


def _paths(value: object, key: str) -> Iterator[tuple[str, Path]]:
    """Yield the existing absolute paths of a config with their keys."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _paths(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, str) and value.startswith("/") and value != "/" and Path(value).exists():
        yield key, Path(value)


def _add_artifacts(packed: _Bundle, plan: Plan, store: Store, request: Request) -> None:
    """Add the finished artifacts of the requested stages."""
    for task in (task for stage in plan.asked_for(request.stages, request.upto) for task in stage.tasks):
        paths = store.paths(task)
        if paths.is_published():
            packed.add(paths.final, f"store/{task.relative.as_posix()}")
            if paths.lineage.is_file():
                packed.add(paths.lineage, f"store/{task.relative.as_posix()}.lineage")
        elif task.stage.kind.network:
            command = shlex.join([f"recipe={request.recipe}", *request.overrides])
            raise UserError(
                f"{task.full_name} is not collected yet.", f"Run `kd run {command} upto={task.stage.name}`."
            )


def _download_wheels(variant: str, folder: Path) -> None:
    """Download the files of a lock and of fairseq, and build kd's wheel."""
    locks = resources.folder("containers") / "locks"
    lock = locks / f"{variant}.txt"
    if not lock.is_file():
        known = ", ".join(sorted(path.stem for path in locks.glob("*.txt")))
        raise UserError(f"There is no lock {variant}.", f"Choose one of {known}, or --without-wheels.")
    folder.mkdir()
    text = lock.read_text("utf-8")
    torch = re.search(r"^torch==\S+", text, re.MULTILINE)
    rest = folder.with_name("rest.txt")
    rest.write_text(re.sub(r"^torch==.*\n(?:[ ].*\n)*", "", text, flags=re.MULTILINE), "utf-8")
    hashed = ["--require-hashes", "--requirement"]
    wanted = [[*hashed, str(rest)], ["--no-build-isolation", *hashed, str(locks / "fairseq.txt")]]
    for arguments in [*wanted, *([[torch[0]]] if torch else [])]:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UserError(
                f"pip cannot download the wheels of {variant}: {done.stderr.strip().split(chr(10))[-1]}",
                "Check the network, or add --without-wheels.",
            )
    build_wheel(resources.folder("containers").parent, folder)


def _write(packed: _Bundle, output: Path, console: Console) -> None:
    """Write the archive beside its final place and rename it, so that an interrupted command leaves no bundle."""
    total = sum(path.stat().st_size for path in packed.files.values())
    console.print(f"Packing {len(packed.files)} files, {size(total)} …")
    lines = [f"{sha256(path)}  {inside}" for inside, path in packed.files.items()]
    lines += [f"{hashlib.sha256(text.encode()).hexdigest()}  {inside}" for inside, text in packed.texts.items()]
    try:
        # What a killed command left there, perhaps hundreds of gigabytes, is removed by the next one.
        with scratch_folder(f".{output.name}-", output.parent) as folder:
            aside = folder / output.name
            with tarfile.open(aside, "w", dereference=True) as archive:
                for inside, text in {**packed.texts, CHECKSUMS: "".join(f"{line}\n" for line in lines)}.items():
                    member = tarfile.TarInfo(f"{TOP}/{inside}")
                    member.size, member.mode = len(text.encode()), 0o755 if inside.endswith(".sh") else 0o644
                    archive.addfile(member, io.BytesIO(text.encode()))
                for inside, path in packed.files.items():
                    archive.add(path.resolve(), f"{TOP}/{inside}", recursive=False)
            aside.replace(output)
    except OSError as error:
        raise disk_fault(error, output.parent) or error from None
    console.print(f"{output}: {size(output.stat().st_size)}. Unpack it with tar -xf, then type {TOP}/{SETUP}.")
