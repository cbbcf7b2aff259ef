"""Check an all-reduce over all workers of a training: by NCCL (RCCL) on GPUs, by gloo on CPUs.

`python -m kd.doctor.reduce` is one worker; the variables of torch.distributed set its rank.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta

from kd.doctor.findings import Finding, error, ok

CONNECT_SECONDS = 90.0  # for workers to connect
SECONDS = 180.0  # for the whole check, with the import of torch
MEGABYTES = {"nccl": 256, "gloo": 16}
REPEATS = 5


def over(nodes: int, rank: int, workers: int, address: str, device: str) -> list[Finding]:
    """Start the workers of this node and wait for them; on success only the first node returns a finding.

    Args:
        nodes: Number of nodes.
        rank: Rank of this node.
        workers: Workers on each node.
        address: host:port of the first node.
        device: cpu, cuda or rocm.
    """
    backend = _backend(device)
    return _findings(backend, nodes, workers, *_run(nodes, rank, workers, address, backend))


def rate(workers: int, device: str) -> float:
    """Return the GB/s of an all-reduce over the workers of this node.

    Raises:
        RuntimeError: A worker failed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    failures, output = _run(1, 0, workers, address, _backend(device))
    if failures:
        raise RuntimeError(failures[0])
    return float(json.loads(output)["gigabytes_per_second"])


def _backend(device: str) -> str:
    return "gloo" if device == "cpu" else "nccl"


def _run(nodes: int, rank: int, workers: int, address: str, backend: str) -> tuple[list[str], str]:
    """Start the workers of this node; return the last lines of those that failed, and the output of the first rank."""
    host, _, port = address.rpartition(":")
    command = [sys.executable, "-P", "-m", "kd.doctor.reduce", backend]
    started = []
    for local in range(workers):
        where = {"MASTER_ADDR": host, "MASTER_PORT": port, "LOCAL_RANK": str(local)}
        world = {"RANK": str(rank * workers + local), "WORLD_SIZE": str(nodes * workers)}
        process = subprocess.Popen(
            command, env={**os.environ, **where, **world}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
    deadline = time.monotonic() + SECONDS
    failures, output = [], ""
    for process in started:
        try:
            out, err = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
            if process.returncode:
                failures.append(_last_line(err))
            output = output or out
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            failures.append(f"no answer within {SECONDS:.0f} s")
    return failures, output


def _findings(backend: str, nodes: int, workers: int, failures: list[str], output: str) -> list[Finding]:
    subject = f"all-reduce by {backend} over {nodes} node{'s' if nodes > 1 else ''} with {workers} each"
    if failures:
        hint = (
            "The workers cannot connect: name the network between the nodes in machine.environment."
            f"{'NCCL' if backend == 'nccl' else 'GLOO'}_SOCKET_IFNAME (conf/machine/README.md)."
        )
        return [error(subject, failures[0], hint)]
    if not output.strip():
        return []
    return [ok(subject, f"{json.loads(output)['gigabytes_per_second']:.2f} GB/s")]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def main() -> None:
    """Run one worker: sum a number over all ranks, check the sum, and measure the time."""
    import torch
    from torch import distributed

    backend = sys.argv[1]
    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = torch.device("cpu") if backend == "gloo" else torch.device("cuda", local)
    if backend == "nccl":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, timeout=timedelta(seconds=CONNECT_SECONDS))
    size = MEGABYTES[backend] * (1 << 20)
    numbers = torch.full((size // 4,), float(rank + 1), device=device)
    distributed.all_reduce(numbers)
    if not bool((numbers == world * (world + 1) / 2).all()):
        raise SystemExit("The sum is wrong: network or memory corrupts data.")
    began = time.perf_counter()
    for _ in range(REPEATS):
        distributed.all_reduce(numbers.fill_(1.0))
    float(numbers.sum())  # waits for the GPU
    seconds = (time.perf_counter() - began) / REPEATS
    if rank == 0:
        print(json.dumps({"gigabytes_per_second": size / seconds / 1e9}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
