"""Whole runs of the tiny recipe, through the command line, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tiny import corpus as tiny_corpus

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True)
class Workplace:
    """A folder with the tiny corpus, a store and a run."""

    folder: Path
    recipe: Path = TINY

    def arguments(self, command: str, *overrides: str) -> list[str]:
        """The command line of a `kd` command on the tiny recipe here."""
        places = [f"corpus.root={self.folder}/corpus", f"run.dir={self.run}", f"store.dir={self.store}"]
        return [sys.executable, "-m", "kd", command, f"recipe={self.recipe}", *places, *overrides]

    def kd(self, command: str, *overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        done = subprocess.run(
            self.arguments(command, *overrides), capture_output=True, text=True, env=self.environment, check=False
        )
        assert not check or done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        """Wide enough that no table is cut."""
        return {**os.environ, "COLUMNS": "200"}

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / "tiny"

    @property
    def store(self) -> Path:
        """Where the artifacts are."""
        return self.folder / "store"

    def published(self) -> dict[str, float]:
        """Manifest -> when it was written, for every artifact in the store."""
        return {
            str(path.parent.relative_to(self.store)): path.stat().st_mtime_ns
            for path in self.store.glob("[!.]*/*/*/manifest.json")
        }


def new_workplace(folder: Path, recipe: Path = TINY) -> Workplace:
    """A fresh one."""
    tiny_corpus.write(folder / "corpus")
    return Workplace(folder, recipe)
