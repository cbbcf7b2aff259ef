"""Schedule tasks by the launcher's own rules, from forecast durations. Waiting times in queues are not included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from kd.launch.order import Rules
from kd.pipeline.model import Task


@dataclass(frozen=True)
class Span:
    """The time span of a task, in seconds from the start of the run."""

    begin: float
    end: float


def lay_out(tasks: Sequence[Task], seconds: Mapping[Task, float], rules: Rules) -> dict[Task, Span]:
    """Return the span of each missing task; inputs that are not among them are finished."""
    waiting, running = dict.fromkeys(tasks), dict[Task, list[int]]()
    spans: dict[Task, Span] = {}
    now = 0.0
    while waiting or running:
        for task, gpus in rules.startable(list(waiting), partial(dict, running), {*waiting, *running}):
            del waiting[task]
            running[task] = gpus
            spans[task] = Span(now, now + seconds[task])
        if not running:  # cannot happen: a plan has no cycle
            raise ValueError("tasks wait for each other")
        now = min(spans[task].end for task in running)
        running = {task: gpus for task, gpus in running.items() if spans[task].end > now}
    return spans


def critical(spans: Mapping[Task, Span]) -> list[Task]:
    """Return the critical path: a chain of tasks from start to end without a gap."""
    chain: list[Task] = []
    end = max((span.end for span in spans.values()), default=0.0)
    while end > 0:
        last = next((task for task, span in spans.items() if abs(span.end - end) < 1e-9 and span.begin < end), None)
        if last is None:
            break
        chain.insert(0, last)
        end = spans[last].begin
    return chain
