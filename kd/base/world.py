"""Read from the environment how many processes work on a task, and on which nodes; a launcher sets it for `kd task`.

Most tasks are one process. A training may be several: one for each GPU, on one or more nodes, as one torchrun.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized

from kd.base.errors import UserError

NODES = "KD_NODES"
NODE_RANK = "KD_NODE_RANK"
RENDEZVOUS = "KD_RENDEZVOUS"
GPUS = "KD_GPUS"
PROCESSES = "KD_PROCESSES"
BEGUN = "KD_BEGUN"
VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")  # ROCm prefers the first


@dataclass(frozen=True)
class World:
    """The nodes of a task, and the resources of this one.

    Attributes:
        nodes: Number of nodes.
        node_rank: Rank of this node, from 0.
        rendezvous: `host:port` of the first node, to which the others connect.
        gpus: GPUs on this node; None if unknown.
        processes: Workers on this node if it has no GPU.
        begun: The start of the first node, in seconds since the epoch; 0 if unknown.
    """

    nodes: int = 1
    node_rank: int = 0
    rendezvous: str | None = None
    gpus: int | None = None
    processes: int = 1
    begun: int = 0

    def workers(self, device: str) -> int:
        """Return the number of processes per node: one per GPU, or the configured number on a CPU."""
        return self.processes if device == "cpu" else max(1, 1 if self.gpus is None else self.gpus)

    def size(self, device: str) -> int:
        """Return the number of processes on all nodes together."""
        return self.nodes * self.workers(device)

    @property
    def address(self) -> tuple[str, str]:
        """Return host and port of the first node."""
        host, _, port = str(self.rendezvous).rpartition(":")
        return host.strip("[]"), port  # an IPv6 address has brackets


def from_environment(environment: Mapping[str, str] = os.environ) -> World:
    """Read KD_NODES, KD_NODE_RANK, KD_RENDEZVOUS, KD_GPUS, KD_PROCESSES and KD_BEGUN; without them, one process.

    Raises:
        UserError: A value is not a number, or two values contradict each other.
    """
    nodes, rank = _number(environment, NODES, 1, 1), _number(environment, NODE_RANK, 0, 0)
    rendezvous = environment.get(RENDEZVOUS) or None
    if rank >= nodes:
        raise UserError(f"{NODE_RANK} is {rank}, but {NODES} is {nodes}.", f"Set it to a number from 0 to {nodes - 1}.")
    if nodes > 1 and not (rendezvous and rendezvous.rpartition(":")[0] and rendezvous.rpartition(":")[2].isdigit()):
        raise UserError(
            f"{NODES} is {nodes}, and {RENDEZVOUS} is {rendezvous!r}.", "Set it to host:port of the first node."
        )
    gpus = _number(environment, GPUS, 0, 0) if environment.get(GPUS) else None
    begun = _number(environment, BEGUN, 0, 0)
    return World(nodes, rank, rendezvous, gpus, _number(environment, PROCESSES, 1, 1), begun)


def take_gpu(number: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Restrict this process to one of its GPUs, by its index from 0; call it before any library has used a GPU.

    The GPUs of the process are those that HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES list, as Slurm sets them.
    """
    name = next((name for name in VISIBLE if environment.get(name)), VISIBLE[-1])
    given = environment.get(name)
    environment[name] = given.split(",")[number] if given else str(number)


def gpu_counter(processes: int) -> Synchronized[int] | None:
    """Return the counter that assigns a GPU to each of several processes; None for a single process."""
    return None if processes == 1 else multiprocessing.get_context("spawn").Value("i", 0)


def take_next_gpu(counter: Synchronized[int] | None, device: str) -> None:
    """Restrict this process to the next GPU that no other process has taken; do nothing on a CPU."""
    if counter is None:
        return
    with counter.get_lock():
        gpu, counter.value = counter.value, counter.value + 1
    if device != "cpu":
        take_gpu(gpu)


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name} is {text!r}.", f"It must be a whole number of at least {least}.")
    return int(text)
