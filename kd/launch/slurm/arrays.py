"""Turn tasks into job arrays: which elements are submitted together, and which jobs each array waits for.

Tasks of a stage that wait for the same jobs form one array, so that a failure reaches only the tasks that depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from kd.pipeline.model import Stage, Task


@dataclass(frozen=True)
class Part:
    """The tasks of a stage that fit into one array: all, unless the site limits the size of arrays.

    An element's number is the index of its task in this part, whether or not other tasks are done.
    """

    stage: Stage
    number: int
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Address:
    """The job and element of a queued task."""

    job: str
    element: int


@dataclass(frozen=True)
class Waits:
    """The jobs that the elements of an array wait for.

    Attributes:
        all: Jobs that every element waits for.
        own: Array jobs. Each element of this job waits only for their element with the same number. For example, the
            selection of a worker waits for that worker's decoding alone.
    """

    all: frozenset[Address] = frozenset()
    own: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Array:
    """The elements that one sbatch submits; they wait for the same jobs."""

    part: Part
    elements: tuple[int, ...]
    waits: Waits

    @property
    def tasks(self) -> dict[int, Task]:
        """The tasks by element number."""
        return {number: self.part.tasks[number] for number in self.elements}


def parts(stage: Stage, most: int) -> list[Part]:
    """Split a stage into parts of up to `most` tasks."""
    chunks = (stage.tasks[start : start + most] for start in range(0, len(stage.tasks), most))
    return [Part(stage, number, tuple(chunk)) for number, chunk in enumerate(chunks)]


def arrays(part: Part, missing: Collection[Task], queued: Mapping[Task, Address]) -> list[Array]:
    """Return the arrays that submit the missing tasks of a part.

    Args:
        part: The part.
        missing: The tasks to submit.
        queued: Their input tasks that are queued, each with its job and element. The arrays wait for these.
    """
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
    """Return the value of sbatch's --dependency; empty if the array waits for no job.

    Args:
        array: The array.
        sizes: Job -> number of elements, for jobs of this submission. If an array waits for all elements of such a job,
            the dependency names the job's id only.
    """
    alone = len(array.elements) == 1  # then aftercorr and afterok mean the same
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
    """Return the jobs that one element waits for, in a form that is equal for elements with the same dependencies.

    Args:
        number: The element's number.
        waited: The elements that it waits for.
        common: The elements that all tasks of the part wait for, whatever their numbers.
    """
    jobs: dict[str, list[int]] = {}
    for address in waited - common:
        jobs.setdefault(address.job, []).append(address.element)
    own = frozenset(job for job, elements in jobs.items() if elements == [number])
    return Waits(frozenset(address for address in waited if address in common or address.job not in own), own)


def ranges(numbers: Sequence[int]) -> str:
    """Format ascending numbers for sbatch: `0-3,7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
