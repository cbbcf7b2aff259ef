"""The nodes of one training find each other by files, whatever an earlier attempt left, and wait not for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kd.engines.fairseq import nodes
from kd.engines.fairseq.nodes import Meeting
from kd.errors import TransientError

FACTS = {"workers": 2, "max_tokens": 600}


def meet(out: Path, count: int) -> list[object]:
    """One meeting of `count` nodes, the first of which comes last."""
    with ThreadPoolExecutor(count) as pool:
        others = [pool.submit(Meeting(out, rank, count, 20).join) for rank in range(1, count)]
        first = Meeting(out, 0, count, 20)
        first.open()
        first.invite(FACTS)
        return [other.result() for other in others]


def test_all_hear_what_the_first_says(tmp_path: Path) -> None:
    told = meet(tmp_path, 3)
    assert all(facts | FACTS == facts for facts in told)


def test_words_of_an_earlier_attempt_are_not_believed(tmp_path: Path) -> None:
    meet(tmp_path, 2)
    # Its files still lie there; a node of the next attempt does not run what they say.
    with pytest.raises(TransientError, match="did not say what to run within 1 s"):
        Meeting(tmp_path, 1, 2, 1).join()
    assert meet(tmp_path, 2)


def test_a_node_that_stays_away_is_named(tmp_path: Path) -> None:
    first = Meeting(tmp_path, 0, 3, 1)
    first.open()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(Meeting(tmp_path, 1, 3, 2).join)
        with pytest.raises(TransientError, match="Node 2 of 3 did not come"):
            first.invite(FACTS)
        with pytest.raises(TransientError):
            other.result()


def test_a_finished_task_needs_no_second_node(tmp_path: Path) -> None:
    assert Meeting(tmp_path, 1, 2, 20).join(over=lambda: True) is None


def test_each_learns_how_the_others_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "POLL_SECONDS", 0.01)
    first, second = Meeting(tmp_path, 0, 2, 20), Meeting(tmp_path, 1, 2, 20)
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(second.join)
        first.open()
        first.invite(FACTS)
        joined.result()
    second.end(1, "no memory")
    assert first.verdict(1, 5) == (1, "no memory")
    first.end(75, "a signal")
    assert second.verdict(0, 5) == (75, "a signal")
    first.close()
    assert second.verdict(0, 0.1) is None
