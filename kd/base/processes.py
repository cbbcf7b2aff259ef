"""Work shared out over processes: results in the order of the work, bounded memory, and no process left behind.

What comes out does not depend on how many there are: an item is worked on alone, and one process needs no pool at all.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType
from typing import Any, TypeVar

from kd.base.errors import TransientError

AHEAD = 2  # items given out a process: none waits for the next one, and few results wait for an earlier one
POLL_SECONDS = 0.5  # between two looks at how far the processes are
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int], None]  # is told, by the work, how much more is done; by `Workers.map`, how much in all


class Workers:
    """Processes for one map after another; a context manager, and leaving it ends them.

    count: how many at the most; with one, this process does the work itself. start: called as `start(*given)` in each
    process before its first item, to make what all its items share. What is handed over is pickled: functions are those
    of a module, or partials of them.

    Processes are spawned, as a forked copy of a process with threads may hang. They end with the thread that started
    them, however it ends, also while they are busy in C code; Ctrl-C is their parent's business.
    """

    def __init__(self, count: int, start: Callable[..., None] | None = None, *given: object) -> None:
        self._count = count
        self._start = None if start is None else partial(start, *given)
        self._started_here = False
        self._context = multiprocessing.get_context("spawn")
        self._pool: tuple[ProcessPoolExecutor, Synchronized[int]] | None = None  # with its count of what is done
        self._processes: set[BaseProcess] = set()
        self._busy = False  # with work that nobody may wait for any more

    def map(self, work: Callable[[T, Tick], R], items: Iterable[T], tick: Tick = lambda _: None) -> Iterator[R]:
        """Yield `work(item, tick)` for each item, in order; items are asked for when a process is about to need them.

        tick: told how much is done, by what all calls of `work` have told theirs, ever again from 0.

        One map at a time; one that is left early ends the processes. What `work`, `start` and `items` raise is raised
        here. Raises TransientError where a process was killed: the kernel does it for want of memory, which depends on
        what runs beside, and a batch system that ends a task may begin with these; so it is worth another try, and no
        mistake in what was asked for. RuntimeError where one died of anything else.
        """
        if self._count <= 1:
            yield from self._here(work, items, tick)
        else:
            yield from self._there(work, iter(items), tick)

    def _here(self, work: Callable[[T, Tick], R], items: Iterable[T], tick: Tick) -> Iterator[R]:
        if self._start is not None and not self._started_here:
            self._start()
        self._started_here = True
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            tick(done)

        for item in items:
            yield work(item, count)

    def _there(self, work: Callable[[T, Tick], R], items: Iterator[T], tick: Tick) -> Iterator[R]:
        if self._busy:  # with what a map that was left early began
            self._end()
        pool, counter = self._pool or self._begun()
        counter.value = 0
        waiting: deque[Future[R]] = deque()
        self._busy = True
        try:
            while True:
                for item in islice(items, AHEAD * self._count - len(waiting)):
                    waiting.append(self._submitted(pool, work, item))
                if not waiting:
                    break
                while not wait([waiting[0]], POLL_SECONDS).done:
                    tick(counter.value)
                result = waiting.popleft().result()
                tick(counter.value)
                yield result
            self._busy = False
        except BrokenProcessPool as error:
            self._end()
            raise _fault(error, self._processes) from error.__cause__
        finally:
            if self._busy:
                self._end()

    def _begun(self) -> tuple[ProcessPoolExecutor, Synchronized[int]]:
        counter = self._context.Value("q", 0)
        started = os.getpid(), counter, self._start
        pool = ProcessPoolExecutor(self._count, self._context, initializer=_begin, initargs=started)
        self._processes = set()
        self._pool = pool, counter
        return self._pool

    def _submitted(self, pool: ProcessPoolExecutor, work: Callable[[T, Tick], R], item: T) -> Future[R]:
        before = set(multiprocessing.active_children())
        with _without_interrupts():  # a process that has just been started would be taken aback by one
            try:
                return pool.submit(_work, work, item)
            finally:
                self._processes |= set(multiprocessing.active_children()) - before

    def _end(self) -> None:
        """End the processes, at once if they are busy."""
        if self._pool is not None:
            (pool, _), self._pool = self._pool, None
            if self._busy:
                for process in self._processes:
                    process.kill()
            self._busy = False
            pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the one that started it ends, however it does (Linux alone).

    parent: the id of that process, which may have ended before this was called.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Puts Ctrl-C off, for this thread and for good in what it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fault(error: BrokenProcessPool, processes: Iterable[BaseProcess]) -> Exception:
    """What a pool is broken from, once its processes have ended."""
    if error.__cause__ is not None:
        return RuntimeError("The result of a worker process cannot be read.")
    for process in processes:
        status = process.exitcode or 0
        if status not in (0, -signal.SIGKILL, -signal.SIGTERM):  # the pool itself ends the others by these two
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            return RuntimeError(f"A worker process {how}.")
    return TransientError(
        "A worker process was killed, most often for want of memory: fewer threads (launcher.threads, --threads) "
        "need less."
    )


# --- in a worker -----------------------------------------------------------------------------------------------------

_done: Synchronized[int] | None = None  # what all workers have done
_start: Callable[[], None] | None = None  # what is to be called before the first item


def _begin(parent: int, done: Synchronized[int], start: Callable[[], None] | None) -> None:
    global _done, _start
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # even where the parent ignores it
    _done, _start = done, start


def _work(work: Callable[[Any, Tick], R], item: Any) -> R:
    global _start  # noqa: PLW0603
    if _start is not None:  # here rather than in `_begin`, whose exceptions would be lost
        _start()
        _start = None
    return work(item, _count)


def _count(more: int) -> None:
    assert _done is not None
    with _done.get_lock():
        _done.value += more
