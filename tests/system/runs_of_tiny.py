"""Whole runs of the tiny recipe, by the command line, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tiny import corpus as tiny_corpus

from kd.pipeline.store import Store
from kd.report.data import ReportData

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True)
class Workplace:
    """A folder with the tiny corpus, a store and a run."""

    folder: Path
    recipe: Path = TINY

    def arguments(self, command: str, *overrides: str) -> list[str]:
        """Return the command line of a `kd` command on the tiny recipe here."""
        places = [f"corpus.root={self.folder}/corpus", f"run.dir={self.run}", f"store.dir={self.store}"]
        return [sys.executable, "-m", "kd", command, f"recipe={self.recipe}", *places, *overrides]

    def kd(self, command: str, *overrides: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `kd` command to its end."""
        done = subprocess.run(
            self.arguments(command, *overrides), capture_output=True, text=True, env=self.environment, check=False
        )
        assert not check or done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        """Wide enough that no row of a table takes two lines, however long tasks took."""
        return {**os.environ, "COLUMNS": "400"}

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / "tiny"

    @property
    def store(self) -> Path:
        """The folder of the artifacts."""
        return self.folder / "store"

    def report(self, run: Path | None = None) -> ReportData:
        """Read the data of the report of this run, or of another run's folder."""
        path = (run or self.run) / "report" / "all" / "report.json"
        return ReportData.from_dict(json.loads(path.read_text("utf-8")))

    def published(self) -> dict[str, float]:
        """Return the time of the last change of each manifest in the store, by task."""
        return {
            str(path.parent.relative_to(self.store)): path.stat().st_mtime_ns
            for path in self.store.glob("[!.]*/*/*/manifest.json")
        }

    def copy(self, folder: Path) -> Workplace:
        """Return a copy below `folder` that a test may change; its artifacts are hard links."""
        hidden = shutil.ignore_patterns(".*")  # the list of runs that use the store, and hashes of raw files by path
        shutil.copytree(self.store, folder / "store", copy_function=os.link, ignore=hidden)
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("store"))
        copied = Workplace(folder, self.recipe)
        Store(copied.store).register(copied.run)
        return copied


def bleu(report: ReportData) -> dict[str, float]:
    """Return the test BLEU of each system."""
    found = {row.name: row.score("BLEU") for row in report.systems}
    return {name: score.value for name, score in found.items() if score}


def new_workplace(folder: Path, recipe: Path = TINY) -> Workplace:
    """Return a workplace with a corpus and nothing else."""
    tiny_corpus.write(folder / "corpus")
    return Workplace(folder, recipe)
