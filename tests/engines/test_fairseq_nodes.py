"""The nodes of one training find each other by files, whatever an earlier attempt left, and wait not for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kd.base.errors import TransientError
from kd.base.world import World
from kd.engines.fairseq import launching, nodes
from kd.engines.fairseq.launching import Launch, TrainingFailed
from kd.engines.fairseq.nodes import Meeting

FACTS = {"workers": 2, "max_tokens": 600}


def meet(out: Path, count: int) -> list[object]:
    """Run one rendezvous of `count` nodes, of which the first joins last."""
    with ThreadPoolExecutor(count) as pool:
        others = [pool.submit(Meeting(out, rank, count, 20).join) for rank in range(1, count)]
        first = Meeting(out, 0, count, 20)
        first.open()
        first.invite(FACTS)
        return [other.result() for other in others]


def test_all_nodes_read_the_facts_of_the_first(tmp_path: Path) -> None:
    told = meet(tmp_path, 3)
    assert all(facts | FACTS == facts for facts in told)


def test_words_of_an_earlier_attempt_are_not_believed(tmp_path: Path) -> None:
    meet(tmp_path, 2)
    # Its files still lie there; a node of the next attempt does not run what they say.
    with pytest.raises(TransientError, match="did not start the training within 1 s"):
        Meeting(tmp_path, 1, 2, 1).join()
    assert meet(tmp_path, 2)


def test_a_node_that_stays_away_is_named(tmp_path: Path) -> None:
    first = Meeting(tmp_path, 0, 3, 1)
    first.open()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(Meeting(tmp_path, 1, 3, 2).join)
        with pytest.raises(TransientError, match="Node 2 of 3 did not join"):
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
    assert first.died() is None
    second.end(1, "no memory")
    assert first.verdict(1, 5) == first.died() == (1, "no memory")
    first.end(75, "a signal")
    assert second.verdict(0, 5) == second.died() == (75, "a signal")
    first.close()
    assert second.verdict(0, 0.1) is None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_that_waits_for_a_failed_node_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Wait as NCCL does: the process and its children sleep."""
    monkeypatch.setattr(launching, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(launching, "GRACE_ALONE", 0.1)
    asleep = ["bash", "-c", "for _ in $(seq $0); do sleep 600 & done; echo up; wait", str(workers)]
    monkeypatch.setattr(Launch, "command", property(lambda _: asleep))
    launch = Launch(tmp_path / "spec", tmp_path / "log", World(nodes=2), workers, 1, 500)
    said: list[str] = []
    with pytest.raises(TrainingFailed, match="rank 1 was killed"):
        launching.run(launch, [said.append], lambda: TrainingFailed("rank 1 was killed") if said else None)
    assert said[0] == "up"


def test_a_node_that_notices_a_failure_itself_reports_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(Launch, "command", property(lambda _: ["bash", "-c", "sleep 0.3; echo full of it; exit 1"]))
    launch = Launch(tmp_path / "spec", tmp_path / "log", World(nodes=2), 1, 1, 500)
    with pytest.raises(TrainingFailed, match="full of it"):
        launching.run(launch, elsewhere=lambda: TrainingFailed("rank 1 was killed"))
