"""Implement a run: a recipe's view of the store, readable with `ls`.

Its folder holds links to artifacts (`<stage>/<task>`), the frozen configs of its tasks, and their logs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import DamagedFile, read_object, write_json
from kd.base.text import unknown_name
from kd.pipeline.fingerprint import digest, is_fingerprint
from kd.pipeline.frozen import frozen_stages
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store, glob_escape

SLURM = "slurm"  # folder of the scripts and records of submitted jobs
PLAN = "plan.json"


class Run:
    """The folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- frozen configs -----------------------------------------------------------------------------------------

    def freeze(self, config: Mapping[str, Any], plan: Plan) -> str:
        """Write a resolved config, the hashes of its raw files and the fingerprints of its tasks; returns its hash."""
        frozen = {
            "config": config,
            "files": {
                task.full_name: {str(path): value for path, value in task.files.items()}
                for task in plan.tasks()
                if task.files
            },
            "fingerprints": {task.full_name: task.fingerprint for task in plan.tasks()},
            "stages": frozen_stages(plan),
        }
        name = digest(frozen)
        path = self.folder / "configs" / f"{name}.json"
        if not path.exists():
            write_json(path, frozen)
        return name

    def frozen(self, name: str) -> dict[str, Any]:
        """Read a frozen config by its hash or a prefix of the hash; raises UserError if it is missing or damaged."""
        found = sorted((self.folder / "configs").glob(f"{glob_escape(name)}*.json"))
        if len(found) != 1:
            known = [path.stem for path in self.folder.glob("configs/*.json")]
            raise unknown_name(f"frozen config in {self.folder}", name, known)
        return read_object(found[0], "Type the command of the run again: `kd run` writes it again.")

    def frozen_tasks(self, store: Store) -> set[str]:
        """Return the paths in the store of all tasks of all frozen configs; unreadable configs are left out."""
        found: set[str] = set()
        for path in self.folder.glob("configs/*.json"):
            with contextlib.suppress(DamagedFile, FileNotFoundError, AttributeError):
                for name, fingerprint in read_object(path).get("fingerprints", {}).items():
                    stage, _, task = str(name).partition("/")
                    found.add(str(store.root / stage / str(fingerprint) / task))
        return found

    # --- its artifacts ------------------------------------------------------------------------------------------

    def show(self, plan: Plan, store: Store, frozen: str, command: str = "") -> None:
        """Write the recipe's current tasks to plan.json, and link those that are published.

        Args:
            plan: The recipe's plan.
            store: The store of its artifacts.
            frozen: The hash of the frozen config.
            command: The arguments of `kd run` that made the plan.

        Links of an earlier version of the recipe stay until all current tasks are published. So `kd run upto=STAGE`
        with a changed setting does not make `kd clean` remove the artifacts of a finished run.
        """
        tasks = {task.full_name: str(store.paths(task).final) for task in plan.tasks()}
        write_json(self.folder / PLAN, {"command": command, "config": frozen, "store": str(store.root), "tasks": tasks})
        store.register(self.folder)
        for task in plan.tasks():
            if store.paths(task).is_published():
                self.link(task, store)
        self.drop_outdated(plan, store)

    def drop_outdated(self, plan: Plan, store: Store) -> None:
        """Remove the links to tasks that the recipe no longer has, once all its tasks are published."""
        if not all(store.paths(task).is_published() for task in plan.tasks()):
            return
        current = {self.link_path(task) for task in plan.tasks()}
        for path in self.folder.glob("*/*"):
            if path.is_symlink() and path not in current and _points_into_a_store(path):
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # other links are left
                    path.parent.rmdir()

    def planned(self) -> dict[str, str]:
        """Return task -> path in the store, as of the last `kd run`; raises DamagedFile for a damaged plan.json."""
        path = self.folder / PLAN
        try:
            tasks = read_object(path, "Type the command of the run again: `kd run` writes it again.").get("tasks")
        except FileNotFoundError:
            return {}
        if not isinstance(tasks, dict) or not all(isinstance(place, str) for place in tasks.values()):
            raise DamagedFile(f"{path} is damaged: it has no tasks.")
        return tasks

    def command(self) -> str:
        """Return the arguments of the last `kd run`; raises DamagedFile for a damaged plan.json."""
        return str(read_object(self.folder / PLAN).get("command") or "")

    def shown(self) -> dict[str, str]:
        """Return task -> path in the store that the run's link points to, from this or an earlier `kd run`."""
        found = {}
        for path in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):  # not a link, or removed this moment
                # Not resolved further: the store itself may contain links, and `kd clean` compares its own spelling.
                target = os.path.normpath(path.parent.resolve() / path.readlink())
                if path.is_dir():
                    found[f"{path.parent.name}/{path.name}"] = target
        return found

    def link_path(self, task: Task) -> Path:
        """Return the path of the run's link to a task's output."""
        return self.folder / task.stage.name / task.name

    def link(self, task: Task, store: Store) -> None:
        """Make the run's link to a task's output."""
        path = self.link_path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Relative to the link's real folder: the run's folder may itself be reached through a link.
        target = os.path.relpath(store.paths(task).final, path.parent.resolve())
        with contextlib.suppress(OSError):
            if str(path.readlink()) == target:
                return
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        aside.symlink_to(target)
        aside.replace(path)

    def log(self, task: Task) -> Path:
        """Return the path of a task's log; each attempt appends to it."""
        return self.folder / "logs" / task.stage.name / f"{task.name}.log"


def _points_into_a_store(link: Path) -> bool:
    """Return whether a link points to `<stage>/<fingerprint>/<task>`; other links in the folder belong to the user."""
    try:
        parts = link.readlink().parts[-3:]
    except OSError:  # another `kd run` removed it this moment
        return False
    return len(parts) == 3 and (parts[0], parts[2]) == (link.parent.name, link.name) and is_fingerprint(parts[1])


def ensure_writable(folder: Path, key: str) -> None:
    """Raise UserError, naming the key, if a folder is not writable."""
    probe = folder / f".write-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"Nothing can be written to {folder}: {reason}.", f"Set {key} to another folder.") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
