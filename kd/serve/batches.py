"""Batch the lines of all requests for one model, so that many small requests are as fast as a large one.

Worker threads take waiting lines, a few from each request in turn, so that a long text does not delay short ones.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from kd.engines.translator import Translation
from kd.serve.limits import Refused

LINES = 64  # of a batch
CHARACTERS = 8_000  # of a batch, unless a single line has more
SHARE = 8  # lines of a request before the next request has its turn


class Window(Protocol):
    """The part of `kd.Translator`'s interface that is used here."""

    def window(self, lines: Sequence[str], nbest: int | None = None) -> list[list[Translation]]:
        """Return the best translations of some lines."""
        ...


class _Request:
    """The lines of one request, and the translations of those that are done."""

    def __init__(self, window: Window, lines: Sequence[str], nbest: int) -> None:
        self.window, self.lines, self.nbest = window, lines, nbest
        self.started = 0  # lines that a worker has taken
        self.finished = 0
        self.found: list[list[Translation]] = [[] for _ in lines]
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[list[Translation]]] = self.loop.create_future()

    def settle(self, error: Exception | None = None) -> None:
        """Pass the result or the error to the request's coroutine. Thread-safe."""

        def set_() -> None:
            if self.future.done():
                return
            if error:
                self.future.set_exception(error)
            else:
                self.future.set_result(self.found)

        try:
            self.loop.call_soon_threadsafe(set_)
        except RuntimeError:  # the loop is closed: the server was stopped before the batch was translated
            pass


class Batcher:
    """Batch the requests for one model, whose directions share its workers."""

    def __init__(self, workers: int, most: int, observe: Callable[[int, int], None] = lambda lines, letters: None):
        """Start the workers.

        Args:
            workers: Number of batches translated at once.
            most: Largest number of requests that wait or are being processed.
            observe: Called with the lines and characters of each batch.
        """
        self._most, self._observe = most, observe
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.unfinished = 0  # requests; used in the event loop only
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    async def translate(self, window: Window, lines: Sequence[str], nbest: int = 1) -> list[list[Translation]]:
        """Return the best translations of each line.

        Raises:
            Refused: Too many requests wait.
        """
        if not lines:
            return []
        if self.unfinished >= self._most:
            raise Refused(503, "The server is busy. Try again later.")
        request = _Request(window, lines, nbest)
        self.unfinished += 1
        try:
            with self._changed:
                if self._closed:
                    raise Refused(503, "The server is stopping.")
                self._requests.append(request)
                self._changed.notify()
            return await request.future
        finally:
            self.unfinished -= 1
            with self._changed:  # a request that timed out or whose client left gives up its lines
                if request in self._requests:
                    self._requests.remove(request)

    def close(self) -> None:
        """End the workers after their current batches."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._requests and not self._closed:
                    self._changed.wait()
                if self._closed:
                    for request in self._requests:
                        request.settle(Refused(503, "The server is stopping."))
                    self._requests.clear()
                    return
                batch = self._take()
                if self._requests:
                    self._changed.notify()
            self._translate(batch)

    def _take(self) -> list[tuple[_Request, int]]:
        """Take lines of one direction from the requests, `SHARE` lines from each in turn."""
        first = self._requests[0]
        batch: list[tuple[_Request, int]] = []
        letters = 0
        others = []
        while self._requests and len(batch) < LINES and letters < CHARACTERS:
            request = self._requests.popleft()
            if request.window is not first.window or request.nbest != first.nbest:
                others.append(request)
                continue
            for _ in range(min(SHARE, LINES - len(batch), len(request.lines) - request.started)):
                length = len(request.lines[request.started])
                if batch and letters + length > CHARACTERS:
                    letters = CHARACTERS
                    break
                batch.append((request, request.started))
                request.started += 1
                letters += length
            if request.started < len(request.lines):
                self._requests.append(request)
        self._requests.extendleft(reversed(others))
        return batch

    def _translate(self, batch: Sequence[tuple[_Request, int]]) -> None:
        lines = [request.lines[number] for request, number in batch]
        try:
            found = batch[0][0].window.window(lines, batch[0][0].nbest)
        except Exception as error:
            for request in dict.fromkeys(request for request, _ in batch):
                with self._changed:
                    if request in self._requests:
                        self._requests.remove(request)
                request.settle(error)
            return
        self._observe(len(lines), sum(map(len, lines)))
        for (request, number), each in zip(batch, found, strict=True):
            request.found[number] = each
        for request in dict.fromkeys(request for request, _ in batch):
            with self._changed:
                request.finished += sum(each is request for each, _ in batch)
                complete = request.finished == len(request.lines)
            if complete:
                request.settle()
