"""The rules of the launchers, on chains whose times can be computed by hand."""

from __future__ import annotations

from kd.launch.order import Rules
from kd.pipeline.model import Stage
from kd.pipeline.plan import Plan
from kd.planning.schedule import critical, lay_out
from tests.pipeline.dummies import entry, plan


def chain() -> Plan:
    """Stage a of three tasks, b of one that reads from all of them, c of one that reads from nothing."""
    return plan(
        entry("a", workers=3),
        entry("b", inputs={"many": {"a": "a"}}),
        entry("c"),
    )


def spans(slots: int, *, by_stage: bool = False, limit: int = 0) -> dict[str, tuple[float, float]]:
    tasks = list(chain().tasks())
    seconds = {task: {"a": 10.0, "b": 5.0, "c": 1.0}[task.stage.name] for task in tasks}

    def side_by_side(stage: Stage) -> int:
        return limit if stage.name == "a" else 0

    found = lay_out(tasks, seconds, Rules(slots=slots, by_stage=by_stage, side_by_side=side_by_side))
    return {task.full_name: (span.begin, span.end) for task, span in found.items()}


def test_waiting_tasks_take_free_slots_in_order() -> None:
    found = spans(2)
    assert found["a/worker-0"] == (0, 10) and found["a/worker-1"] == (0, 10)
    assert found["a/worker-2"] == (10, 20)
    assert found["b/worker-0"] == (20, 25)
    assert max(end for _, end in found.values()) == 25


def test_a_scheduler_runs_all_tasks_but_throttles_an_array() -> None:
    assert spans(0, by_stage=True)["b/worker-0"] == (10, 15)
    throttled = spans(0, by_stage=True, limit=1)
    assert throttled["b/worker-0"] == (30, 35)
    assert throttled["c/worker-0"] == (0, 1)


def test_the_critical_path_has_no_pauses() -> None:
    tasks = list(chain().tasks())
    found = lay_out(tasks, dict.fromkeys(tasks, 4.0), Rules(by_stage=True))
    assert [task.stage.name for task in critical(found)] == ["a", "b"]
    assert critical({}) == []
