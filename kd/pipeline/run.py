"""A run: a recipe's view on the store, readable with `ls`.

Its folder holds links to artifacts (`<stage>/<task>`), the frozen configs that tasks were planned with, and their logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.base.text import unknown_name
from kd.pipeline.fingerprint import digest, is_fingerprint
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store

SLURM = "slurm"  # folder of the scripts and records of what was submitted to a Slurm


class Run:
    """The folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # --- frozen configs -----------------------------------------------------------------------------------------

    def freeze(self, config: Mapping[str, Any], plan: Plan) -> str:
        """Keeps a resolved config, its raw files' hashes and the fingerprints planned from it; returns its hash."""
        frozen = {
            "config": config,
            "files": {
                task.full_name: {str(path): value for path, value in task.files.items()}
                for task in plan.tasks()
                if task.files
            },
            "fingerprints": {task.full_name: task.fingerprint for task in plan.tasks()},
        }
        name = digest(frozen)
        path = self.folder / "configs" / f"{name}.json"
        if not path.exists():
            write_json(path, frozen)
        return name

    def frozen(self, name: str) -> dict[str, Any]:
        """A frozen config by its hash, or the beginning of it."""
        found = sorted((self.folder / "configs").glob(f"{name}*.json"))
        if len(found) != 1:
            raise unknown_name(
                f"frozen config in {self.folder}", name, [p.stem for p in self.folder.glob("configs/*.json")]
            )
        return dict(json.loads(found[0].read_text("utf-8")))

    # --- what the run reaches -----------------------------------------------------------------------------------

    def show(self, plan: Plan, store: Store, frozen: str) -> None:
        """Writes down what the recipe means now, and points the links of what is published to it.

        What the recipe meant before stays linked, and so in reach, until all that it means now is there: trying a
        setting as far as some stage costs nobody a finished run.
        """
        tasks = {task.full_name: str(store.paths(task).final) for task in plan.tasks()}
        write_json(self.folder / "plan.json", {"config": frozen, "store": str(store.root), "tasks": tasks})
        store.register(self.folder)
        for task in plan.tasks():
            if store.paths(task).is_published():
                self.link(task, store)
        self.drop_outdated(plan, store)

    def drop_outdated(self, plan: Plan, store: Store) -> None:
        """Removes the links to what the recipe no longer means, once all that it means is there."""
        if not all(store.paths(task).is_published() for task in plan.tasks()):
            return
        meant = {self.link_path(task) for task in plan.tasks()}
        for path in self.folder.glob("*/*"):
            if path.is_symlink() and path not in meant and _points_into_a_store(path):
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # others are left
                    path.parent.rmdir()

    def planned(self) -> dict[str, str]:
        """Task -> place in the store, as of the last `kd run`."""
        try:
            return dict(json.loads((self.folder / "plan.json").read_text("utf-8"))["tasks"])
        except FileNotFoundError:
            return {}

    def shown(self) -> dict[str, str]:
        """Task -> place in the store that the run's link points to, now or from an earlier `kd run`."""
        links = [path for path in self.folder.glob("*/*") if path.is_symlink() and path.is_dir()]
        return {f"{path.parent.name}/{path.name}": str(path.resolve()) for path in links}

    def link_path(self, task: Task) -> Path:
        """Where the run shows a task's output."""
        return self.folder / task.stage.name / task.name

    def link(self, task: Task, store: Store) -> None:
        """Points the run's link of a task to its output."""
        path = self.link_path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        # From where the link really stands: the run's folder may itself be reached through a link.
        target = os.path.relpath(store.paths(task).final, path.parent.resolve())
        with contextlib.suppress(OSError):
            if str(path.readlink()) == target:
                return
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        aside.symlink_to(target)
        aside.replace(path)

    def log(self, task: Task) -> Path:
        """Where a task's output and errors are written to; each attempt appends."""
        return self.folder / "logs" / task.stage.name / f"{task.name}.log"


def _points_into_a_store(link: Path) -> bool:
    """Whether a link is one of ours, to `<stage>/<fingerprint>/<task>`: the folder may hold others of the user's."""
    try:
        parts = link.readlink().parts[-3:]
    except OSError:  # another `kd run` removed it this moment
        return False
    return len(parts) == 3 and (parts[0], parts[2]) == (link.parent.name, link.name) and is_fingerprint(parts[1])


def ensure_writable(folder: Path, key: str) -> None:
    """Raises UserError naming the key when nothing can be written to a folder."""
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
