"""Slurm's commands as shell scripts that write down what they were called with: for what needs no Slurm to be seen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kd.launch.slurm import launcher, queue
from kd.launch.slurm.script import Settings
from kd.recipe.schema import MachineConfig, ResourcesConfig
from tests.launch.chain import Chain

# A queue in a folder: sbatch adds a job, squeue lists them all as the format that kd asks for has them.
SBATCH = """
printf '%s\\n' "$(printf '%s\\x1f' "$@")" >>"$STUB/sbatch"
[ ! -e "$STUB/refuse" ] || { cat "$STUB/refuse" >&2; exit 1; }
id=$(($(wc -l <"$STUB/sbatch") + 100))
for word; do
    case $word in
    --comment=*) comment=${word#*=} ;;
    --array=*) elements=${word#*=} ;;
    esac
done
elements=${elements%\\%*}
for element in $(for span in ${elements//,/ }; do seq "${span%-*}" "${span#*-}"; done); do
    echo "$id|$element|PENDING|Dependency|N/A||0:00|1:00|(null)|$comment" >>"$STUB/queue"
done
if [ -e "$STUB/silent" ]; then
    rm "$STUB/silent"
    echo 'sbatch: error: Socket timed out on send/recv operation' >&2
    exit 1
fi
echo $id
"""
SQUEUE = 'cat "$STUB/queue" 2>/dev/null || true'
OTHERS = 'printf "%s\\n" "$(printf "%s\\x1f" "$0" "$@")" >>"$STUB/others"'


class Stub:
    """A folder of such commands, to be put on PATH, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name, script in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": OTHERS, "sacct": "exit 1"}.items():
            path = folder / "bin" / name
            path.write_text(f"#!/bin/bash\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def environment(self) -> dict[str, str]:
        """What makes them the ones that are found."""
        return {"STUB": str(self.folder), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Stub:
        """Make them found by this process, and let the launcher lose no time in waiting for a real Slurm."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(launcher, "PAUSE_SECONDS", 0.01)
        monkeypatch.setattr(launcher, "IN_FLIGHT_SECONDS", 0.2)
        monkeypatch.setattr(queue, "SUCCESSOR_SECONDS", 0.0)
        return self

    def submissions(self) -> list[dict[str, str]]:
        """The options of each sbatch, by name; the script as `script`."""
        path = self.folder / "sbatch"
        lines = path.read_text().split("\x1f\n")[:-1] if path.exists() else []
        return [
            {
                "script": words[-1],
                **{name: value for name, _, value in (word[2:].partition("=") for word in words[:-1])},
            }
            for words in (line.split("\x1f") for line in lines)
        ]

    def cancelled(self) -> list[str]:
        """What scancel was given."""
        return (self.folder / "others").read_text().split("\x1f")[1:-1]

    def change_states(self, old: str, new: str) -> None:
        """Move all jobs of a state to another."""
        path = self.folder / "queue"
        path.write_text(path.read_text().replace(f"|{old}|", f"|{new}|"))


def machine(**changes: object) -> MachineConfig:
    """A small cluster."""
    wanted = {name: ResourcesConfig(cores=2, hours=1.5) for name in ("train", "decode", "cpu", "light")}
    made = MachineConfig(name="small", device="cpu", gpus_per_node=0, account=None, resources=wanted)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def settings(chain: Chain, **changes: object) -> Settings:
    """What the scripts of a chain share."""
    recipe = str(changes.pop("recipe", "small"))
    chain.run.freeze({}, chain.plan)
    return Settings(recipe, "hash", machine(**changes), 3, chain.run, chain.command)
