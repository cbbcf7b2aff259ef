"""Settings of where and how a recipe runs, and of its chain of stages.

None of launcher, machine and tracking changes what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class LauncherConfig:
    """Where tasks execute."""

    kind: str = MISSING  # local
    processes: int = MISSING  # tasks side by side
    threads: int = MISSING  # shared out evenly among them; results on CPU depend on the number each task gets


@dataclass
class MachineConfig:
    """The facts of one computer."""

    name: str = MISSING
    device: str = MISSING  # cpu | cuda
    gpus: int = MISSING  # on a node


@dataclass
class TrackingConfig:
    """How loudly a run reports."""

    refresh: float = MISSING  # seconds between two lines of progress where the output is no terminal


@dataclass
class FolderConfig:
    """A folder."""

    dir: str = MISSING


@dataclass
class StageConfig:
    """An entry of the chain: a kind with its settings and the stages it reads from, by role."""

    kind: str = MISSING
    over: str | None = None  # `pairs`: one instance per language pair, named `stage.pair`
    enabled: bool = True
    inputs: dict[str, Any] = field(default_factory=dict)  # role -> stage name, or -> mapping of name -> stage name
    after: str | None = None  # stage to wait for without reading from it: only the order of work on a small machine
    settings: Any = None
    # Laid over the settings: `settings: ${student}` with `changes: {max_update: 500}`.
    changes: dict[str, Any] = field(default_factory=dict)
