"""How many processes work on one task, on which nodes: what a launcher tells `kd task` by its environment.

Most tasks are one process. A training may be several: one for each GPU, on one node or on more, as one torchrun.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from kd.base.errors import UserError

NODES = "KD_NODES"
NODE_RANK = "KD_NODE_RANK"
RENDEZVOUS = "KD_RENDEZVOUS"
GPUS = "KD_GPUS"
PROCESSES = "KD_PROCESSES"
BEGUN = "KD_BEGUN"
VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")  # of both, ROCm goes by the first


@dataclass(frozen=True)
class World:
    """The nodes of a task, and what this one has for it.

    nodes: how many; node_rank: which this is, from 0; rendezvous: `host:port` of the first, where the others find it;
    gpus: on this node, None where nobody has said; processes: workers on this node where it has no GPU; begun: when the
    first node began, in seconds since the epoch, 0 where nobody has said.
    """

    nodes: int = 1
    node_rank: int = 0
    rendezvous: str | None = None
    gpus: int | None = None
    processes: int = 1
    begun: int = 0

    def workers(self, device: str) -> int:
        """Processes on each node: one a GPU, or as many as were asked for on the CPU."""
        return self.processes if device == "cpu" else max(1, 1 if self.gpus is None else self.gpus)

    def size(self, device: str) -> int:
        """Processes on all nodes together."""
        return self.nodes * self.workers(device)

    @property
    def address(self) -> tuple[str, str]:
        """Host and port of the first node."""
        host, _, port = str(self.rendezvous).rpartition(":")
        return host.strip("[]"), port  # an IPv6 address stands in brackets


def from_environment(environment: Mapping[str, str] = os.environ) -> World:
    """What KD_NODES, KD_NODE_RANK, KD_RENDEZVOUS, KD_GPUS, KD_PROCESSES and KD_BEGUN say; one process without them.

    Raises: UserError for what is no number, or does not fit together.
    """
    nodes, rank = _number(environment, NODES, 1, 1), _number(environment, NODE_RANK, 0, 0)
    rendezvous = environment.get(RENDEZVOUS) or None
    if rank >= nodes:
        raise UserError(f"{NODE_RANK} is {rank}, and {NODES} is {nodes}.", "The first node has rank 0.")
    if nodes > 1 and not (rendezvous and rendezvous.rpartition(":")[0] and rendezvous.rpartition(":")[2].isdigit()):
        raise UserError(
            f"{NODES} is {nodes}, and {RENDEZVOUS} is {rendezvous!r}.", "Set it to host:port of the first node."
        )
    gpus = _number(environment, GPUS, 0, 0) if environment.get(GPUS) else None
    begun = _number(environment, BEGUN, 0, 0)
    return World(nodes, rank, rendezvous, gpus, _number(environment, PROCESSES, 1, 1), begun)


def take_gpu(number: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Leaves this process the one GPU of this number, from 0, among those that it has; before anything has used one.

    Those are what HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES name, as Slurm sets them. ROCm reads the second as well.
    """
    name = next((name for name in VISIBLE if environment.get(name)), VISIBLE[-1])
    given = environment.get(name)
    environment[name] = given.split(",")[number] if given else str(number)


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name} is {text!r}.", f"It must be a number from {least} on.")
    return int(text)
