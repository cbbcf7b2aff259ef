"""From tasks to job arrays: which elements are submitted together, and what each array waits for.

Tasks of a stage that wait for the same others go together; so a failure reaches what stands on it and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kd.pipeline.model import Stage, Task


@dataclass(frozen=True)
class Part:
    """As much of a stage as one array can hold: all of it, unless it has more tasks than the site lets an array have.

    An element's number is the place of its task among these, done or not.
    """

    stage: Stage
    number: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Address:
    """Where a task that is queued stands in Slurm."""

    job: str
    element: int


@dataclass(frozen=True)
class Waits:
    """What the elements of an array wait for.

    all: every element waits for these. own: jobs of which each element waits for the one that has its own number, as
    one worker's selecting waits for that worker's decoding.
    """

    all: frozenset[Address] = frozenset()
    own: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Array:
    """What one sbatch submits: elements of a part that wait for the same."""

    part: Part
    elements: tuple[int, ...]
    waits: Waits

    @property
    def tasks(self) -> dict[int, Task]:
        """Its tasks by their elements' numbers."""
        return {number: self.part.tasks[number] for number in self.elements}


def parts(stage: Stage, most: int) -> list[Part]:
    """A stage cut into parts of up to `most` tasks."""
    chunks = (stage.tasks[start : start + most] for start in range(0, len(stage.tasks), most))
    return [Part(stage, number, tuple(chunk)) for number, chunk in enumerate(chunks)]


def arrays(part: Part, missing: Collection[Task], queued: Mapping[Task, Address]) -> list[Array]:
    """The arrays for those tasks of a part that are to be submitted. queued: where what they wait for stands."""
    alike: dict[frozenset[Address], list[int]] = {}
    for number, task in enumerate(part.tasks):
        if task in missing:
            waited = frozenset(queued[other] for other in task.upstream() if other in queued)
            alike.setdefault(waited, []).append(number)
    single = [waited for waited, numbers in alike.items() if len(numbers) == 1]
    common = frozenset.intersection(*single) if len(single) > 1 else frozenset()
    groups: dict[Waits, list[int]] = {}
    for waited, numbers in alike.items():
        waits = Waits(waited) if len(numbers) > 1 else _own(numbers[0], waited, common)
        groups.setdefault(waits, []).extend(numbers)
    return [Array(part, tuple(sorted(elements)), waits) for waits, elements in groups.items()]


def dependency(array: Array, sizes: Mapping[str, int]) -> str:
    """What sbatch is told by --dependency; empty if the array waits for nothing.

    sizes: job -> how many elements it has, of those that are known to be whole: such a one that is waited for
    altogether is named by its id alone.
    """
    alone = len(array.elements) == 1  # then both mean the same, and `afterok` is the better known
    waited = {*array.waits.all, *(Address(job, array.elements[0]) for job in array.waits.own if alone)}
    elements: dict[str, list[int]] = {}
    for address in waited:
        elements.setdefault(address.job, []).append(address.element)
    names: list[str] = []
    for job, numbers in sorted(elements.items(), key=lambda item: (len(item[0]), item[0])):
        whole = len(numbers) == sizes.get(job)
        names += [job] if whole else [f"{job}_{number}" for number in sorted(numbers)]
    found = [f"afterok:{':'.join(names)}"] if names else []
    own = [] if alone else sorted(array.waits.own)
    return ",".join([*found, *(f"aftercorr:{job}" for job in own)])


def _own(number: int, waited: frozenset[Address], common: frozenset[Address]) -> Waits:
    """What one element waits for, told so that others which wait for theirs in the same way wait for the same.

    common: what they all wait for, whatever number it has there.
    """
    jobs: dict[str, list[int]] = {}
    for address in waited - common:
        jobs.setdefault(address.job, []).append(address.element)
    own = frozenset(job for job, elements in jobs.items() if elements == [number])
    return Waits(frozenset(address for address in waited if address in common or address.job not in own), own)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as sbatch writes them: `0-3,7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
