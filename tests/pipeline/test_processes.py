"""Work over processes: in order, lazily, and what goes wrong in one of them is told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kd.errors import UserError
from kd.pipeline.processes import AHEAD, ordered_map

SHARED: list[int] = []


def share(number: int) -> None:
    SHARED[:] = [number]


def square(number: int) -> int:
    if number == 99:
        raise UserError("99 cannot be squared.", "Take another number.")
    if number == 98:
        os._exit(1)
    return number * number + sum(SHARED)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    assert list(ordered_map(square, range(20), processes, share, 1000)) == [1000 + n * n for n in range(20)]
    SHARED.clear()


def test_work_is_asked_for_no_earlier_than_it_is_needed() -> None:
    asked = 0

    def work() -> Iterator[int]:
        nonlocal asked
        for number in range(50):
            asked += 1
            yield number

    results = ordered_map(square, work(), 2)
    assert next(results) == 0
    assert asked <= AHEAD * 2
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_process_raises_is_raised_here(processes: int) -> None:
    with pytest.raises(UserError, match="99 cannot be squared"):
        list(ordered_map(square, [1, 99, 2], processes))


def test_a_process_that_was_killed_is_no_silent_end() -> None:
    with pytest.raises(MemoryError, match="ended from outside"):
        list(ordered_map(square, [1, 98, 2], 2))
