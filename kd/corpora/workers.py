"""Work spread over processes, with results in the order of the items and no process left behind.

What comes out does not depend on how many there are: an item is worked on alone, and one process needs no pool at all.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType
from typing import Any, TypeVar

from kd.errors import TransientError

POLL_SECONDS = 0.5  # between two looks at how far the processes are
_PR_SET_PDEATHSIG = 1  # Linux: the signal a process gets when its parent ends, however that ended

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int], None]  # is told how many pairs further the work is

_done: Synchronized[int] | None = None  # in a worker: pairs that all workers have done


class Workers:
    """Processes for one kind of work after another; a context manager, and leaving it ends them at once.

    processes: how many; with one, the work is done here. A worker whose parent is killed dies with it.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._strangers: set[int | None] = set()
        self._context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang
        self._counter: Synchronized[int] | None = None

    def map(self, work: Callable[[T, Tick], R], items: Sequence[T], tick: Tick) -> Iterator[R]:
        """Yield `work(item, tick)` for each item, in order; at most two items a process are in flight.

        work: a function of a module, or a partial of one. tick: told how many pairs are done, ever again from 0.
        """
        if self._processes <= 1 or len(items) <= 1:
            yield from self._here(work, items, tick)
        else:
            yield from self._there(work, items, tick)

    def _here(self, work: Callable[[T, Tick], R], items: Sequence[T], tick: Tick) -> Iterator[R]:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            tick(done)

        for item in items:
            yield work(item, count)

    def _there(self, work: Callable[[T, Tick], R], items: Sequence[T], tick: Tick) -> Iterator[R]:
        pool, counter = self._started()
        counter.value = 0
        in_flight: deque[Future[R]] = deque()
        feed = iter(items)
        try:
            while True:
                while len(in_flight) < 2 * self._processes and (item := next(feed, None)) is not None:
                    in_flight.append(pool.submit(_work, work, item))
                if not in_flight:
                    break
                while not wait([in_flight[0]], timeout=POLL_SECONDS).done:
                    tick(counter.value)
                yield in_flight.popleft().result()
        except BrokenProcessPool:
            raise TransientError("A process was killed, by the system for want of memory perhaps.") from None
        tick(counter.value)

    def _started(self) -> tuple[ProcessPoolExecutor, Synchronized[int]]:
        if self._pool is None or self._counter is None:
            self._strangers = {process.pid for process in multiprocessing.active_children()}
            self._counter = self._context.Value("q", 0)
            self._pool = ProcessPoolExecutor(
                self._processes, self._context, initializer=_begin, initargs=(os.getpid(), self._counter)
            )
        return self._pool, self._counter

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is None:
            return
        if kind is not None:  # nobody waits for what is being worked on
            for process in multiprocessing.active_children():
                if process.pid not in self._strangers:
                    process.kill()
        self._pool.shutdown(cancel_futures=True)


def _begin(parent: int, done: Synchronized[int]) -> None:
    """In a new worker: die with the parent, leave Ctrl-C to it, and count into its counter."""
    global _done  # noqa: PLW0603 - a worker has one parent to count for
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before we could ask
        os.kill(os.getpid(), signal.SIGKILL)


def _work(work: Callable[[Any, Tick], R], item: Any) -> R:
    return work(item, _count)


def _count(more: int) -> None:
    assert _done is not None
    with _done.get_lock():
        _done.value += more
