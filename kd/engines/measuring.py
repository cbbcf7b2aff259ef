"""Measure a system's speed and resources, in its own process: rates, latency, memory, loading time.

Each process is forked from one that has only loaded the libraries, so memory left over from one system is not counted
for the next.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.processes import die_with_parent
from kd.engines.loading import Decoding, Translates, count_pieces, load, megabytes
from kd.models.description import FAIRSEQ
from kd.models.folder import ModelFolder

PRELOADED = ["kd.engines.fairseq.libraries"]
MOST_OTHERS = max(0.15, 0.02 * (os.cpu_count() or 1))  # cores that others may keep busy in an undisturbed round
RESOLUTION = 0.03  # seconds: /proc/stat counts in steps of 0.01
WARM_UP = 20  # sentences: the first call pays for what later ones find ready
MEGABYTE = 1e6


@dataclass(frozen=True)
class Measurement:
    """The measurements to make of one system."""

    folders: tuple[Path, ...]
    decoding: Decoding
    sources: tuple[str, ...]
    repeats: int  # the median counts
    latency_sentences: int  # translated one after the other, each alone
    cores: int  # all that there are; the main figures are of one
    device: str


def measure(wanted: Measurement) -> dict[str, Any]:
    """Measure in a separate process and wait for it.

    Raises UserError if loading fails, or RuntimeError if the process died.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(send, wanted), daemon=True)
    process.start()
    send.close()
    try:
        found = receive.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"The process that measured {wanted.folders[0]} died ({process.exitcode}).") from None
    finally:
        process.kill()
        process.join()
        receive.close()
    if isinstance(found, UserError):
        raise found
    if isinstance(found, str):
        raise RuntimeError(found)
    content: dict[str, Any] = found
    return content


def _answer(send: Connection, wanted: Measurement) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's business, which ends it
    die_with_parent(os.getppid())
    try:
        send.send(_measured(wanted))
    except UserError as error:
        send.send(error)
    except BaseException:
        send.send(traceback.format_exc())


def _measured(wanted: Measurement) -> dict[str, Any]:
    before = resident("VmRSS")
    began = time.perf_counter()
    system = load(wanted.folders, wanted.decoding, threads=1, device=wanted.device)
    loading = time.perf_counter() - began
    system(wanted.sources[:WARM_UP])
    rate = _rate(system, wanted, wanted.sources)
    peak, gpu = resident("VmHWM"), _gpu_megabytes(wanted)
    latency = _latency(system, wanted.sources[: wanted.latency_sentences])
    everywhere = None
    if wanted.cores > 1:
        del system
        system = load(wanted.folders, wanted.decoding, threads=wanted.cores, device=wanted.device)
        # CTranslate2 gives each core batches of its own: it gets as many as with one core, times the cores.
        sources = wanted.sources * (wanted.cores if _engine(wanted) != FAIRSEQ else 1)
        system(sources[:WARM_UP])
        everywhere = {"cores": wanted.cores, **_rate(system, wanted, sources)}
    return {
        "form": _engine(wanted),
        **rate,
        "all_cores": everywhere,
        "latency_ms": latency,
        "load_seconds": loading,
        "memory_megabytes": (peak - before) / MEGABYTE,
        "process_megabytes": peak / MEGABYTE,
        "gpu_megabytes": gpu,
        "megabytes": megabytes(wanted.folders),
    }


def _rate(system: Translates, wanted: Measurement, sources: Sequence[str]) -> dict[str, Any]:
    """Measure sentences and output pieces per second, in pieces of the system's own vocabulary.

    A round that other processes disturbed is repeated, at most `repeats` times in total. If there are still too few
    undisturbed rounds, the least disturbed ones are used and the result is marked.
    """
    rounds: list[tuple[float, float]] = []  # cores that other processes kept busy, seconds
    outputs: list[str] = []

    def quiet() -> int:
        return sum(others <= MOST_OTHERS for others, _ in rounds)

    while len(rounds) < wanted.repeats or (quiet() < wanted.repeats and len(rounds) < 2 * wanted.repeats):
        before = busy_seconds()
        outputs, taken = _timed(lambda: system(sources))
        rounds.append((others_busy(before, busy_seconds(), taken), taken))
    counted = sorted(rounds)[: wanted.repeats]  # the least disturbed
    seconds = [taken for _, taken in counted]
    median = statistics.median(seconds)
    tokens = count_pieces(wanted.folders, outputs)
    return {
        "sentences_per_second": len(sources) / median,
        "tokens_per_second": tokens / median,
        "seconds": seconds,
        "others": statistics.fmean(others for others, _ in counted),
        "disturbed": quiet() < wanted.repeats,
        "repeated": len(rounds) - wanted.repeats,
    }


def busy_seconds() -> tuple[float, float]:
    """Return the busy seconds of all cores since the machine started, and those of this process; 0 if unknown."""
    own = sum(os.times()[:4])
    with contextlib.suppress(OSError, ValueError):
        fields = Path("/proc/stat").read_text("ascii", "replace").split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq = (int(field) for field in fields[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), own
    return own, own


def others_busy(before: tuple[float, float], after: tuple[float, float], seconds: float) -> float:
    """Return the mean number of cores that other processes kept busy between two values of `busy_seconds`."""
    everyone, own = (new - old for old, new in zip(before, after, strict=True))
    return max(0.0, everyone - own - RESOLUTION) / seconds if seconds else 0.0


def _latency(system: Translates, sources: Sequence[str]) -> dict[str, Any] | None:
    """Return the median and the 99th percentile of the time of single sentences, in milliseconds."""
    if not sources:
        return None
    times = sorted(_timed(lambda source=source: system([source]))[1] for source in sources)  # type: ignore[misc]
    last = min(len(times) - 1, -(-99 * len(times) // 100) - 1)  # nearest rank
    return {"median": 1000 * statistics.median(times), "p99": 1000 * times[last], "sentences": len(times)}


def _timed(work: Callable[[], list[str]]) -> tuple[list[str], float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def resident(what: str) -> int:
    """Return the bytes of memory that this process uses (`VmRSS`) or used at its peak (`VmHWM`); 0 if unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").split("\n"):
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
    return 0


def _engine(wanted: Measurement) -> str:
    return ModelFolder.open(wanted.folders[0]).engine


def _gpu_megabytes(wanted: Measurement) -> float | None:
    """Return torch's peak of GPU memory; CTranslate2 reports none."""
    if wanted.device == "cpu" or _engine(wanted) != FAIRSEQ:
        return None
    import torch

    return torch.cuda.max_memory_allocated() / MEGABYTE
