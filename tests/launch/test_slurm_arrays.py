"""Which tasks are submitted together, and what they wait for."""

from __future__ import annotations

from kd.launch.slurm.arrays import Address, Array, arrays, dependency, parts, ranges
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from tests.pipeline.dummies import entry, plan


def submitted(chain: Plan, most: int = 1001, done: set[str] | None = None) -> list[tuple[str, str, str]]:
    """Stage, elements and dependency of each array of a chain, submitted as jobs 1, 2, 3 …"""
    where: dict[Task, Address] = {}
    sizes: dict[str, int] = {}
    found = []
    missing = {task for task in chain.tasks() if task.full_name not in (done or set())}
    for stage in chain.stages:
        for part in parts(stage, most):
            for array in arrays(part, missing, where):
                job = str(len(found) + 1)
                found.append((stage.name, ranges(array.elements), dependency(array, sizes)))
                sizes[job] = len(array.elements)
                where |= {task: Address(job, number) for number, task in array.tasks.items()}
    return found


def chain_with(*, own: bool, workers: int = 3) -> Plan:
    """`second` reads from `first`: each of its workers from all of them, or from its own."""
    made = plan(
        entry("first", workers=workers),
        entry("second", workers=workers, inputs={"many": {"x": "first"}}),
        entry("last", inputs={"many": {"x": "second"}}),
    )
    if own:
        first, second, _ = made.stages
        for number, task in enumerate(second.tasks):
            task.inputs = {"many": [item for item in task.inputs["many"] if item.task is first.tasks[number]]}
    return made


def test_a_stage_is_an_array_that_waits_for_the_whole_of_what_it_reads_from() -> None:
    assert submitted(chain_with(own=False)) == [
        ("first", "0-2", ""),
        ("second", "0-2", "afterok:1"),
        ("last", "0", "afterok:2"),
    ]


def test_workers_that_read_from_a_worker_each_wait_for_that_one_alone() -> None:
    assert submitted(chain_with(own=True)) == [
        ("first", "0-2", ""),
        ("second", "0-2", "aftercorr:1"),
        ("last", "0", "afterok:2"),
    ]


def test_what_all_workers_wait_for_besides_does_not_part_them() -> None:
    # The corpus is element 0 of its job, as is the first worker of its own.
    chain = plan(
        entry("corpus"),
        entry("first", workers=3, inputs={"many": {"x": "corpus"}}),
        entry("second", workers=3, inputs={"many": {"x": "first", "y": "corpus"}}),
    )
    first = chain.find("first")[0].tasks
    for number, task in enumerate(chain.find("second")[0].tasks):
        task.inputs = {
            "many": [item for item in task.inputs["many"] if item.task not in first or item.task is first[number]]
        }
    assert submitted(chain)[2] == ("second", "0-2", "afterok:1,aftercorr:2")


def test_what_is_done_is_neither_submitted_nor_waited_for() -> None:
    done = {"first/worker-1", "second/worker-0"}
    assert submitted(chain_with(own=False), done=done)[1:] == [
        ("second", "1-2", "afterok:1"),
        ("last", "0", "afterok:2"),
    ]
    assert submitted(chain_with(own=True), done=done) == [
        ("first", "0,2", ""),
        ("second", "1", ""),
        ("second", "2", "afterok:1_2"),
        ("last", "0", "afterok:2:3"),
    ]


def test_tasks_that_wait_for_others_than_their_sisters_go_on_their_own() -> None:
    # Of three systems that are translated, the failure of one's training is to stop that one alone.
    chain = plan(entry("a"), entry("b"), entry("systems", workers=3, inputs={"many": {"a": "a", "b": "b"}}))
    one, both, other = chain.find("systems")[0].tasks
    a, b = both.inputs["many"]
    one.inputs, other.inputs = {"many": [a]}, {"many": [b]}
    assert submitted(chain) == [
        ("a", "0", ""),
        ("b", "0", ""),
        ("systems", "0", "afterok:1"),
        ("systems", "1", "afterok:1:2"),
        ("systems", "2", "afterok:2"),
    ]


def test_first_elements_are_not_taken_for_a_pair() -> None:
    # All read from the one task of `first`, which happens to have the number of one of them.
    chain = plan(entry("first"), entry("second", workers=2, inputs={"many": {"x": "first"}}))
    assert submitted(chain)[1:] == [("second", "0-1", "afterok:1")]


def test_an_array_has_no_more_elements_than_the_site_allows() -> None:
    chain = plan(entry("first", workers=5), entry("last", inputs={"many": {"x": "first"}}))
    assert submitted(chain, most=2) == [
        ("first", "0-1", ""),
        ("first", "0-1", ""),
        ("first", "0", ""),
        ("last", "0", "afterok:1:2:3"),
    ]
    names = [[task.name for task in part.tasks] for part in parts(chain.stages[0], 2)]
    assert names == [["worker-0", "worker-1"], ["worker-2", "worker-3"], ["worker-4"]]


def test_an_order_without_need_is_no_dependency() -> None:
    assert submitted(plan(entry("a"), entry("b", after=("a",))))[1] == ("b", "0", "")


def test_elements_of_jobs_that_were_queued_before_are_waited_for_one_by_one() -> None:
    chain = chain_with(own=False)
    first, second, _ = chain.stages
    where = {task: Address("7", number) for number, task in enumerate(first.tasks) if number != 1}
    (array,) = arrays(parts(second, 1001)[0], set(second.tasks), where)
    assert dependency(array, {}) == "afterok:7_0:7_2"
    assert isinstance(array, Array) and list(array.tasks.values()) == second.tasks


def test_numbers_are_written_as_sbatch_reads_them() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert ranges([3]) == "3"
