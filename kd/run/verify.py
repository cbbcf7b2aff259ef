"""Implement `kd verify`: compare artifacts with the hashes in their manifests."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd.base.bar import Bar
from kd.base.errors import UserError
from kd.base.files import DamagedFile
from kd.base.hashing import sha256
from kd.base.text import size
from kd.pipeline.run import Run
from kd.pipeline.store import MANIFEST, ArtifactPaths, Store
from kd.recipe import compose
from kd.recipe.compose import Request

EXIT_BROKEN = 1
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Fault:
    """A file of an artifact that differs from its manifest."""

    paths: ArtifactPaths
    file: str
    problem: str


def verify(request: Request | None, overrides: Sequence[str] = ()) -> int:
    """Verify the published artifacts of a recipe, or of the whole store; return the exit status.

    Args:
        request: The recipe; None for the whole store.
        overrides: Without a recipe, the overrides that name the store.
    """
    config = compose.compose(request or compose.parse_request(["recipe=demo", *overrides]))
    store = Store(Path(config.store.dir))
    if request is None:
        chosen, of = list(store.all_paths()), str(store.root)
    else:
        chosen, of = [store.paths(task) for task in compose.plan(config).tasks()], str(config.recipe)
    artifacts = [paths for paths in chosen if paths.is_published()]
    console = Console(highlight=False)
    total = sum(_bytes(paths) for paths in artifacts)
    with Bar("verifying", total, "bytes") as bar:
        faults = check(artifacts, bar.advance)
    broken = len({fault.paths for fault in faults})
    if not faults:
        console.print(f"{of}: all {len(artifacts)} artifacts ({size(total)}) match their manifests.", soft_wrap=True)
        return 0
    _show(faults, store, _commands(store, request), console)
    console.print(f"{of}: {broken} of {len(artifacts)} artifacts are broken.", soft_wrap=True)
    return EXIT_BROKEN


def check(artifacts: Iterable[ArtifactPaths], tick: Tick = lambda _: None) -> list[Fault]:
    """Compare artifacts with their manifests on all cores; return the faults, in the order of the artifacts.

    Args:
        artifacts: The paths of published artifacts.
        tick: Called with the number of bytes read since its last call, by several threads.
    """
    # Threads: hashing releases the interpreter lock.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [job for paths in artifacts for job in _jobs(paths)]
        try:
            return [fault for found in pool.map(lambda job: job(tick), jobs) for fault in found]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _jobs(paths: ArtifactPaths) -> list[Callable[[Tick], list[Fault]]]:
    """Return the comparisons of one artifact, one for each file."""
    try:
        manifest = paths.manifest()
    except (DamagedFile, OSError) as error:
        problem = error.problem if isinstance(error, DamagedFile) else os.strerror(error.errno or 0)
        fault = Fault(paths, MANIFEST, problem)
        return [lambda _: [fault]]
    place = (manifest["stage"], manifest["fingerprint"], manifest["task"])
    if place != paths.final.parts[-3:]:
        misplaced = Fault(paths, MANIFEST, f"is the manifest of {'/'.join(map(str, place))}")
        return [lambda _: [misplaced]]
    return [_comparison(paths, str(name), entry) for name, entry in manifest["files"].items()]


def _comparison(paths: ArtifactPaths, name: str, entry: object) -> Callable[[Tick], list[Fault]]:
    def compare(tick: Tick) -> list[Fault]:
        problem = _problem(paths.final / name, entry, tick)
        return [Fault(paths, name, problem)] if problem else []

    return compare


def _problem(path: Path, entry: object, tick: Tick) -> str:
    """Return how a file differs from its entry in the manifest; empty if it matches."""
    if not (isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)):
        return "its entry in the manifest is damaged"
    try:
        found = path.stat().st_size
        if found != entry["bytes"]:
            tick(entry["bytes"])
            return f"has {found:,} bytes instead of {entry['bytes']:,}"
        return "" if sha256(path, tick) == entry["sha256"] else "has different content (SHA-256)"
    except FileNotFoundError:
        return "is missing"
    except ValueError:  # a name with a NUL byte
        return "its name in the manifest is damaged"
    except OSError as error:
        return f"cannot be read: {os.strerror(error.errno or 0)}"


def _bytes(paths: ArtifactPaths) -> int:
    try:
        return int(paths.manifest()["bytes"])
    except (DamagedFile, OSError):
        return 0


# --- the remedy ------------------------------------------------------------------------------------------------------


def _commands(store: Store, request: Request | None) -> dict[str, str]:
    """Return path in the store -> the arguments of the `kd run` that makes it."""
    if request is not None:
        plan = compose.plan(compose.compose(request))
        return {str(store.paths(task).final): f"{request.command} upto={task.stage.name}" for task in plan.tasks()}
    found: dict[str, str] = {}
    for folder in store.runs():
        try:
            run = Run(folder)
            command = run.command()
            for name, place in run.planned().items():
                found.setdefault(place, f"{command} upto={name.partition('/')[0]}")
        except (UserError, OSError):  # a damaged or unreadable run: then no command is known
            continue
    return found


def _show(faults: Iterable[Fault], store: Store, commands: dict[str, str], console: Console) -> None:
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 2000  # one line for each fault in a pipe
    table = Table(box=None, header_style="bold")
    for heading in ("artifact", "file", "problem"):
        table.add_column(heading, overflow="fold")
    broken: dict[ArtifactPaths, None] = {}
    for fault in faults:
        broken[fault.paths] = None
        table.add_row(*map(Text, (str(fault.paths.final.relative_to(store.root)), fault.file, fault.problem)))
    console.print(table)
    console.print("Make them again:")
    for paths in broken:
        again = commands.get(str(paths.final))
        remove = f"rm -r {shlex.quote(str(paths.final))}"
        line = f"{remove} && kd run {again}" if again else f"{remove}   # no run refers to it"
        console.print(Text(f"    {line}"), soft_wrap=True)
