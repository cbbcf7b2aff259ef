"""Speed measurements on a busy machine: disturbed rounds are repeated, and marked where they stay disturbed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import pytest

from kd.engines import measuring
from kd.engines.loading import Decoding
from kd.engines.measuring import Measurement, others_busy


def rate(monkeypatch: pytest.MonkeyPatch, others: Iterable[float]) -> dict[str, Any]:
    """Measure a system three times while other processes keep so many cores busy."""
    loads = iter(others)
    monkeypatch.setattr(measuring, "others_busy", lambda *_: next(loads))
    monkeypatch.setattr(measuring, "count_pieces", lambda *_: 8)
    wanted = Measurement((), Decoding(1, 10, 100, "de"), ("a", "b"), 3, 0, 1, "cpu")
    return measuring._rate(list, wanted, wanted.sources)


def test_a_disturbed_round_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rate(monkeypatch, [0.0, 1.3, 0.1, 0.05])
    assert len(found["seconds"]) == 3
    assert (found["repeated"], found["disturbed"]) == (1, False)
    assert found["others"] == pytest.approx(0.05)  # the mean of 0, 0.05 and 0.1


def test_a_machine_that_stays_busy_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rate(monkeypatch, repeat(1.5))
    assert len(found["seconds"]) == 3
    assert (found["repeated"], found["disturbed"], found["others"]) == (3, True, 1.5)


def test_an_idle_machine_is_measured_as_often_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rate(monkeypatch, repeat(0.0))
    assert (found["repeated"], found["disturbed"]) == (0, False)


def test_the_own_work_is_not_that_of_others() -> None:
    # All processes worked 4 s in 2 s of time, this one 1 s of them; 0.03 s may be an error of the clock.
    assert others_busy((100.0, 5.0), (104.0, 6.0), 2.0) == pytest.approx((4 - 1 - 0.03) / 2)
    assert others_busy((100.0, 5.0), (101.0, 6.0), 1.0) == 0.0
