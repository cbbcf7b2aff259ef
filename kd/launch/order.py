"""Decide which tasks may start next; the launchers and `kd plan` share this module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kd.pipeline.model import Stage, Task


def _unlimited(_: Stage) -> int:
    return 0


def _one_gpu(_: Task) -> int:
    return 1


@dataclass(frozen=True)
class Rules:
    """How a launcher orders tasks.

    Attributes:
        slots: Number of tasks at the same time; 0: any number.
        gpus: Number of GPUs of this computer.
        gpus_of: Number of GPUs of a task. Several GPUs are exclusive; a single GPU may be shared.
        by_stage: Whether a task waits for all tasks of the stages that it reads from, not only for its own inputs.
        side_by_side: Number of tasks of a stage at the same time; 0: any number.
    """

    slots: int = 0
    gpus: int = 0
    gpus_of: Callable[[Task], int] = _one_gpu
    by_stage: bool = False
    side_by_side: Callable[[Stage], int] = _unlimited

    def startable(
        self,
        waiting: Iterable[Task],
        running: Callable[[], Mapping[Task, Sequence[int]]],
        unfinished: Collection[Task],
    ) -> Iterator[tuple[Task, list[int]]]:
        """Yield the tasks that may start now, in order, each with its GPUs.

        Args:
            waiting: Tasks that have not started.
            running: Returns the running tasks with their GPUs; a yielded task counts when the caller has started it.
            unfinished: Waiting and running tasks, and tasks that another process works on.
        """
        stages = {task.stage for task in unfinished} if self.by_stage else set()
        for task in waiting:
            active = running()
            if self._is_full(active):
                return
            alone = not (self.slots and task.stage.kind.exclusive and active)
            if alone and not self._is_throttled(task, active) and not self._is_blocked(task, unfinished, stages):
                gpus = self._free_gpus(task, active)
                if gpus is not None:
                    yield task, gpus

    def _is_full(self, active: Mapping[Task, Sequence[int]]) -> bool:
        full = len(active) >= self.slots or any(task.stage.kind.exclusive for task in active)
        return self.slots > 0 and full

    def _is_throttled(self, task: Task, active: Iterable[Task]) -> bool:
        limit = self.side_by_side(task.stage)
        return limit > 0 and sum(other.stage is task.stage for other in active) >= limit

    def _is_blocked(self, task: Task, unfinished: Collection[Task], stages: Collection[Stage]) -> bool:
        if self.by_stage:
            inputs = [stage for inputs in task.stage.inputs.values() for _, stage in inputs]
            return any(stage in stages for stage in (*inputs, *task.stage.after))
        after = (other for stage in task.stage.after for other in stage.tasks)
        return any(other in unfinished for other in (*task.upstream(), *after))

    def _free_gpus(self, task: Task, active: Mapping[Task, Sequence[int]]) -> list[int] | None:
        """Return the least used GPUs for a task; None if it needs several GPUs and must wait for them."""
        uses = Counter(gpu for gpus in active.values() for gpu in gpus)
        chosen = sorted(range(self.gpus), key=lambda gpu: (uses[gpu], gpu))[: max(1, self.gpus_of(task))]
        return None if len(chosen) > 1 and any(uses[gpu] for gpu in chosen) else chosen
