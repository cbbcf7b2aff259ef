"""Distribute work over processes: results in order, bounded memory, and no process left behind.

Each item is processed alone, so the results do not depend on the number of processes. One process needs no pool.
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
from typing import Any, Generic, TypeVar

from kd.base.errors import TransientError

AHEAD = 2  # items submitted for each process: no process waits for its next item, and few results wait for their turn
TICK_ITEMS = 5000  # between two reports of progress
POLL_SECONDS = 0.5  # between two reads of the progress count
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R")
Tick = Callable[[int], None]  # called by the work with an increment, and by `Workers.map` with the total so far


def share(context: C) -> C:
    """Return the context unchanged: `Workers(count, share, rules)` sends `rules` to each process once."""
    return context


def ticking(items: Iterable[T], tick: Tick) -> Iterator[T]:
    """Pass items on and report every `TICK_ITEMS` of them."""
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        if number % TICK_ITEMS == 0:
            tick(TICK_ITEMS)
    tick(number % TICK_ITEMS)


class Workers(Generic[C]):
    """Processes for any number of consecutive maps; a context manager that ends them on exit.

    Processes are spawned, since a forked copy of a process with threads may hang. They end with the thread that started
    them, however it ends, also while they are busy in C code. The parent process handles Ctrl-C.

    Args:
        count: The largest number of processes; with 1, this process does the work itself.
        start: Called as `start(*given)` in each process before its first item; returns the context of its items.
            Arguments and functions are pickled: functions are those of a module, or partials of them.
    """

    def __init__(self, count: int, start: Callable[..., C], *given: object) -> None:
        self._count = count
        self._start: Callable[[], C] = partial(start, *given)
        self._here: list[C] = []  # the context of this process, once it was made
        self._context = multiprocessing.get_context("spawn")
        self._pool: tuple[ProcessPoolExecutor, Synchronized[int]] | None = None  # with its count of finished work
        self._processes: set[BaseProcess] = set()
        self._busy = False  # with work whose results may no longer be needed

    def map(self, work: Callable[[C, T, Tick], R], items: Iterable[T], tick: Tick = lambda _: None) -> Iterator[R]:
        """Yield `work(context, item, tick)` for each item, in order; items are read when a process needs them.

        One map at a time; a map that is left early ends the processes.

        Args:
            work: A function of the context, an item and a progress callback.
            items: The items.
            tick: Called with the sum of all increments that the calls of `work` reported, starting at 0 for each map.

        Raises:
            TransientError: A process was killed. A retry may succeed: the kernel kills processes when memory runs out,
                which depends on the machine's other work, and a batch system that ends a task may kill these processes
                first.
            RuntimeError: A process died for another reason.
            Exception: Whatever `work`, `start` and `items` raise.
        """
        if self._count <= 1:
            yield from self._in_this_process(work, items, tick)
        else:
            yield from self._in_the_pool(work, iter(items), tick)

    def _in_this_process(self, work: Callable[[C, T, Tick], R], items: Iterable[T], tick: Tick) -> Iterator[R]:
        if not self._here:
            self._here.append(self._start())
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            tick(done)

        for item in items:
            yield work(self._here[0], item, count)

    def _in_the_pool(self, work: Callable[[C, T, Tick], R], items: Iterator[T], tick: Tick) -> Iterator[R]:
        if self._busy:  # with the items of a map that was left early
            self._end()
        pool, counter = self._pool or self._started()
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

    def _started(self) -> tuple[ProcessPoolExecutor, Synchronized[int]]:
        counter = self._context.Value("q", 0)
        given = os.getpid(), counter, self._start
        pool = ProcessPoolExecutor(self._count, self._context, initializer=_initialise, initargs=given)
        self._processes = set()
        self._pool = pool, counter
        return self._pool

    def _submitted(self, pool: ProcessPoolExecutor, work: Callable[[C, T, Tick], R], item: T) -> Future[R]:
        before = set(multiprocessing.active_children())
        with _without_interrupts():  # Ctrl-C would end a process that is just starting with a traceback
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

    def __enter__(self) -> Workers[C]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel signal this process when its parent ends for any reason (Linux only).

    Args:
        parent: The process id of the parent, which may have ended before this call.
        number: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in this thread, and permanently in the processes that it starts in the meantime."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fault(error: BrokenProcessPool, processes: Iterable[BaseProcess]) -> Exception:
    """Build the error for a broken pool from the exit codes of its processes."""
    if error.__cause__ is not None:
        return RuntimeError("The result of a worker process cannot be read.")
    for process in processes:
        status = process.exitcode or 0
        if status not in (0, -signal.SIGKILL, -signal.SIGTERM):  # the pool itself ends the others by these two
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            return RuntimeError(f"A worker process {how}.")
    return TransientError(
        "A worker process was killed, most often for lack of memory. Fewer threads (launcher.threads, --threads) "
        "need less memory."
    )


# --- in a worker -----------------------------------------------------------------------------------------------------


class _Worker:
    """The state of a worker process: the context of its items, and the count of work done by all workers."""

    def __init__(self, done: Synchronized[int], start: Callable[[], Any]) -> None:
        self._done = done
        self._start = start
        self._context: list[Any] = []

    def work(self, work: Callable[[Any, Any, Tick], R], item: Any) -> R:
        """Process one item. The first call creates the context, since a pool loses an initialiser's exceptions."""
        if not self._context:
            self._context.append(self._start())
        return work(self._context[0], item, self._count)

    def _count(self, more: int) -> None:
        with self._done.get_lock():
            self._done.value += more


_worker: list[_Worker] = []  # of this process: an executor's initialiser can leave it nowhere else


def _initialise(parent: int, done: Synchronized[int], start: Callable[[], Any]) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # even where the parent ignores it
    _worker[:] = [_Worker(done, start)]


def _work(work: Callable[[Any, Any, Tick], R], item: Any) -> R:
    return _worker[0].work(work, item)
