"""Batches of lines from many requests: fair, bounded, and given up when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from kd.engines.translator import Translation
from kd.serve.batches import Batcher
from kd.serve.limits import Refused


class Upper:
    """Writes upper case, one batch at a time, each when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)

    def window(self, lines: Sequence[str], nbest: int | None = None) -> list[list[Translation]]:
        self.batches.append(list(lines))
        self.started.release()
        self.allowed.acquire()
        if "bad" in lines:
            raise ValueError("bad line")
        return [[Translation(line.upper(), 0.0)] * (nbest or 1) for line in lines]

    async def wait(self) -> None:
        await asyncio.to_thread(self.started.acquire)


def run(work: Any, most: int = 100) -> None:
    model = Upper()
    batcher = Batcher(1, most)

    async def main() -> None:
        try:
            await work(model, batcher)
        finally:
            model.allowed.release(1000)
            await asyncio.to_thread(batcher.close)

    asyncio.run(asyncio.wait_for(main(), 60))


def texts(found: list[list[Translation]]) -> list[str]:
    return [each[0].text for each in found]


def test_lines_that_wait_are_translated_together() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.translate(model, ["a"]))
        await model.wait()
        others = [asyncio.create_task(batcher.translate(model, [f"b{n}", "c"])) for n in range(3)]
        await asyncio.sleep(0)
        model.allowed.release(2)
        assert texts(await first) == ["A"]
        assert [texts(await each) for each in others] == [[f"B{n}", "C"] for n in range(3)]
        assert model.batches == [["a"], ["b0", "c", "b1", "c", "b2", "c"]]

    run(work)


def test_a_short_request_does_not_wait_for_a_long_one() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.translate(model, ["a"]))
        await model.wait()
        long = asyncio.create_task(batcher.translate(model, [f"l{n}" for n in range(500)]))
        await asyncio.sleep(0)
        short = asyncio.create_task(batcher.translate(model, ["s"]))
        await asyncio.sleep(0)
        model.allowed.release(2)
        assert texts(await short) == ["S"] and not long.done()
        model.allowed.release(100)
        assert texts(await long) == [f"L{n}" for n in range(500)]
        await first

    run(work)


def test_long_lines_are_not_collected_into_a_large_batch() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        model.allowed.release(100)
        lines = ["x" * 3000] * 5 + ["y" * 20_000]
        assert texts(await batcher.translate(model, lines)) == [line.upper() for line in lines]
        assert [len(batch) for batch in model.batches] == [2, 2, 1, 1]

    run(work)


def test_one_request_too_many_is_refused() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        waiting = [asyncio.create_task(batcher.translate(model, ["a"])) for _ in range(2)]
        await model.wait()
        with pytest.raises(Refused) as refused:
            await batcher.translate(model, ["b"])
        assert refused.value.status == 503
        model.allowed.release(10)
        await asyncio.gather(*waiting)
        assert batcher.unfinished == 0
        assert texts(await batcher.translate(model, ["b"])) == ["B"]

    run(work, most=2)


def test_a_request_that_is_given_up_is_not_translated() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.translate(model, ["a"]))
        await model.wait()
        given_up = asyncio.create_task(batcher.translate(model, ["gone"]))
        await asyncio.sleep(0)
        given_up.cancel()
        last = asyncio.create_task(batcher.translate(model, ["b"]))
        await asyncio.sleep(0)
        model.allowed.release(2)
        assert texts(await last) == ["B"] and texts(await first) == ["A"]
        assert model.batches == [["a"], ["b"]]

    run(work)


def test_an_error_reaches_its_requests_and_the_worker_goes_on() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        model.allowed.release(10)
        with pytest.raises(ValueError, match="bad line"):
            await batcher.translate(model, ["bad"])
        assert texts(await batcher.translate(model, ["a"])) == ["A"]

    run(work)


def test_translations_of_another_number_are_another_batch() -> None:
    async def work(model: Upper, batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.translate(model, ["a"]))
        await model.wait()
        two = asyncio.create_task(batcher.translate(model, ["b"], 2))
        await asyncio.sleep(0)
        one = asyncio.create_task(batcher.translate(model, ["c"], 1))
        model.allowed.release(10)
        assert [len(found[0]) for found in (await first, await two, await one)] == [1, 2, 1]
        assert model.batches == [["a"], ["b"], ["c"]]

    run(work)
