"""When each task would begin and end: the launcher's rules, played through with the seconds that were worked out.

A local launcher runs so many tasks side by side; a scheduler's jobs wait for whole stages, and for no one else's jobs:
how long a queue is, nobody knows beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kd.pipeline.model import Stage, Task


@dataclass(frozen=True)
class Span:
    """When a task runs, in seconds from the beginning."""

    begin: float
    end: float


@dataclass(frozen=True)
class Rules:
    """How a launcher orders work."""

    slots: int  # tasks side by side; 0: any number
    by_stage: bool  # a task waits for all tasks of the stages it reads from, not for its own inputs alone
    side_by_side: Callable[[Stage], int]  # tasks of a stage at once; 0: any number


def lay_out(tasks: Sequence[Task], seconds: Mapping[Task, float], rules: Rules) -> dict[Task, Span]:
    """The spans of tasks that are still to be run; what they read from and is not among them is there."""
    waiting, running = list(tasks), dict[Task, float]()
    spans: dict[Task, Span] = {}
    now = 0.0
    while waiting or running:
        for task in _startable(waiting, running, rules):
            waiting.remove(task)
            running[task] = now + seconds[task]
            spans[task] = Span(now, running[task])
        if not running:  # cannot be: a plan has no circle
            raise ValueError("tasks wait for each other")
        now = min(running.values())
        running = {task: end for task, end in running.items() if end > now}
    return spans


def _startable(waiting: Sequence[Task], running: Mapping[Task, float], rules: Rules) -> list[Task]:
    """As the launchers choose: in the order of the plan, as long as there is room."""
    unfinished, unfinished_stages = {*waiting, *running}, {task.stage for task in (*waiting, *running)}
    chosen: list[Task] = []
    for task in waiting:
        active = [*running, *chosen]
        if rules.slots and (len(active) >= rules.slots or any(other.stage.kind.exclusive for other in active)):
            break
        if rules.slots and task.stage.kind.exclusive and active:
            continue
        limit = rules.side_by_side(task.stage)
        if limit and sum(other.stage is task.stage for other in active) >= limit:
            continue
        if rules.by_stage:
            stages = [other for inputs in task.stage.inputs.values() for _, other in inputs]
            blocked = any(stage in unfinished_stages for stage in (*stages, *task.stage.after))
        else:
            after = (other for stage in task.stage.after for other in stage.tasks)
            blocked = any(other in unfinished for other in (*task.upstream(), *after))
        if not blocked:
            chosen.append(task)
    return chosen


def critical(spans: Mapping[Task, Span]) -> list[Task]:
    """A chain of tasks without a pause from the beginning to the end: what has to get faster for the whole to."""
    chain: list[Task] = []
    end = max((span.end for span in spans.values()), default=0.0)
    while end > 0:
        last = next((task for task, span in spans.items() if abs(span.end - end) < 1e-9 and span.begin < end), None)
        if last is None:
            break
        chain.insert(0, last)
        end = spans[last].begin
    return chain
