"""Work shared out over processes, its results in the order of the work: deterministic, in bounded memory, no orphans.

Processes are spawned, not forked (a task has threads of its own), and one whose parent died ends at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # pieces of work given out a process: enough that none waits, few enough to hold in memory


def ordered_map(
    function: Callable[[T], R],
    work: Iterable[T],
    processes: int,
    start: Callable[..., None] | None = None,
    *given: object,
) -> Iterator[R]:
    """Yield `function(item)` for each item, in order; by one process, that is by this one itself, or by several.

    function, items and results are pickled; function is defined at the top of a module. What it raises is raised here.
    start: called as `start(*given)` in each process before its first item, to make what all its items share.
    Leaving the iterator early ends the processes. Raises MemoryError if one was killed, as the system does when memory
    is short.
    """
    if processes <= 1:
        if start is not None:
            start(*given)
        yield from map(function, work)
        return
    before = {process.pid for process in multiprocessing.active_children()}
    executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (start, given))
    waiting: deque[Future[R]] = deque()
    try:
        for item in work:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise MemoryError("A process was ended from outside, as happens when memory is short.") from None
    except BaseException:
        for process in multiprocessing.active_children():
            if process.pid not in before:
                process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _begin(start: Callable[..., None] | None, given: tuple[object, ...]) -> None:
    """In a new process: Ctrl-C is the parent's business, and its death is ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()
    if start is not None:
        start(*given)


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
