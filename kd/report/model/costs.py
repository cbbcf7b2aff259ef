"""Records of what a run took and of what one needs to do the same again.

Sums are over all tasks of a stage, interrupted attempts included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

IDLE = 0.7
"""Mean utilisation of GPUs below which the rest is called idle."""


@dataclass(frozen=True)
class StageCost:
    """What a stage took."""

    stage: str
    seconds: float  # of all its tasks together
    tasks: int = 1
    bytes: int | None = None  # its artifacts on disk
    gpus: list[str] = field(default_factory=list)  # types, as they call themselves
    gpu_hours: float | None = None  # None: on CPU, or their number is not known
    kwh: float | None = None  # measured; None: of no task
    unmeasured: int = 0  # tasks without kWh, where others have them
    sources: list[str] = field(default_factory=list)  # of the kWh: nvml, rocm-smi
    gpu_utilisation: float | None = None  # 0 to 1, mean weighted by time
    pue: float | None = None  # power usage effectiveness
    carbon_intensity: float | None = None  # kg CO2e a kWh
    kg_co2e: float | None = None

    @property
    def idle(self) -> bool:
        """Whether its GPUs waited much of the time."""
        return self.gpu_utilisation is not None and self.gpu_utilisation < IDLE


@dataclass(frozen=True)
class Provenance:
    """What one needs to do the same again."""

    config: str = ""  # the recipe as it was run, YAML
    versions: dict[str, str] = field(default_factory=dict)  # by package
    fingerprints: dict[str, str] = field(default_factory=dict)  # by stage and task
    seeds: dict[str, int] = field(default_factory=dict)  # by what is seeded
    machine: dict[str, str] = field(default_factory=dict)  # processor, memory, threads …
    containers: dict[str, str] = field(default_factory=dict)  # path -> sha256, empty where it is not known
