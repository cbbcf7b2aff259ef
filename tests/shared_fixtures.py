"""Fixtures that many tests share: made once, and the same after every test.

A fixture of session or module scope that names folders or files (a path, a dataclass or tuple of paths) is read-only.
After each test that uses one, its files are compared with those that it had when it was made. Permissions would not
stop root, under which CI often runs. A test that changes files takes a copy of its own.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

CACHES = {".files.json"}  # in a store: hashes of raw files, which any command of kd may add
# Path below a folder -> kind of entry, time of the last change, size, inode, target of a link.
Snapshot = dict[str, tuple[object, ...]]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` fills once in this run of pytest; all workers of pytest-xdist use the same one."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        make(folder)
        return folder
    folder = factory.getbasetemp().parent / f"{name}-of-all-workers"
    with FileLock(f"{folder}.lock"):
        done = folder.with_name(f"{folder.name}.done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # left by a worker in which `make` failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def snapshot(root: Path) -> Snapshot:
    """Describe each file, folder and link at and below `root`."""
    found: Snapshot = {}
    for path in (root, *sorted(root.rglob("*"))):
        if path.name in CACHES:
            continue
        state = path.lstat()
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", path.readlink())
        elif path.is_dir():
            found[name] = ("folder",)
        else:
            found[name] = ("file", state.st_mtime_ns, state.st_size, state.st_ino)
    return found


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """List what was added, removed and changed."""
    added = [f"added {name}" for name in after if name not in before]
    removed = [f"removed {name}" for name in before if name not in after]
    changed = [f"changed {name}" for name in before if name in after and before[name] != after[name]]
    return [*added, *removed, *changed]


def paths_in(value: Any, depth: int = 3) -> Iterator[Path]:
    """Yield the paths in a fixture's value, `depth` levels deep: a plan's stages and tasks refer to each other."""
    if isinstance(value, Path):
        yield value
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from paths_in(getattr(value, field.name), depth - 1)
    elif depth and isinstance(value, tuple | list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from paths_in(item, depth - 1)


class SharedFixtures:
    """Plugin of pytest that compares shared fixtures after each test."""

    def __init__(self) -> None:
        self._temporary: Path | None = None  # the folder of all temporary folders of this run
        self._alive: dict[str, dict[Path, Snapshot]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Any:
        """Take the snapshot of a shared fixture that was just made."""
        value = yield
        if isinstance(value, pytest.TempPathFactory):
            base = value.getbasetemp()
            self._temporary = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        elif self._temporary and fixturedef.scope in ("session", "package", "module"):
            roots = {path for path in paths_in(value) if path.exists() and path.is_relative_to(self._temporary)}
            self._alive[fixturedef.argname] = {root: snapshot(root) for root in roots}
        return value

    @pytest.hookimpl
    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Forget a fixture that is gone; another module may have one of the same name."""
        if fixturedef.scope != "function":
            self._alive.pop(fixturedef.argname, None)

    def changes(self, names: list[str]) -> list[str]:
        """Describe how the fixtures of these names have changed, and compare with the new state from here on."""
        found = []
        for name in names:
            for root, before in self._alive.get(name, {}).items():
                after = snapshot(root)
                found += [f"{name}: {difference}" for difference in differences(before, after)]
                self._alive[name][root] = after
        return found
