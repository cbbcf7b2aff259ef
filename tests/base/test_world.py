"""What a launcher says of a task's nodes and processes, read from the environment."""

from __future__ import annotations

import pytest

from kd.base.errors import UserError
from kd.base.world import World, from_environment, take_gpu


def test_without_a_word_it_is_one_process() -> None:
    world = from_environment({})
    assert world == World()
    assert (world.size("cpu"), world.size("cuda")) == (1, 1)


def test_two_nodes_with_four_gpus_each_are_eight_processes() -> None:
    world = from_environment(
        {"KD_NODES": "2", "KD_NODE_RANK": "1", "KD_RENDEZVOUS": "n1.cluster:29400", "KD_GPUS": "4", "KD_PROCESSES": "1"}
    )
    assert (world.workers("cuda"), world.size("cuda"), world.size("rocm")) == (4, 8, 8)
    assert world.address == ("n1.cluster", "29400")
    # The same nodes without their GPUs: one process each.
    assert world.size("cpu") == 2


def test_processes_are_of_the_cpu_alone() -> None:
    world = from_environment({"KD_GPUS": "0", "KD_PROCESSES": "3"})
    assert (world.workers("cpu"), world.workers("cuda")) == (3, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": "1"}),
        ({"CUDA_VISIBLE_DEVICES": "4,6,7"}, {"CUDA_VISIBLE_DEVICES": "6"}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aa,GPU-bb"}, {"CUDA_VISIBLE_DEVICES": "GPU-bb"}),
        (
            {"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "2,3"},
            {"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "3"},
        ),
    ],
)
def test_a_process_takes_one_gpu_of_those_that_its_job_has(before: dict[str, str], after: dict[str, str]) -> None:
    environment = dict(before)
    take_gpu(1, environment)
    assert environment == after


def test_an_ipv6_address_stands_in_brackets() -> None:
    world = from_environment({"KD_NODES": "2", "KD_RENDEZVOUS": "[fd00::1]:29400"})
    assert world.address == ("fd00::1", "29400")


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"KD_NODES": "two"}, "KD_NODES is 'two'"),
        ({"KD_NODES": "0"}, "KD_NODES is '0'"),
        ({"KD_PROCESSES": "-1"}, "KD_PROCESSES is '-1'"),
        ({"KD_NODES": "2", "KD_NODE_RANK": "2", "KD_RENDEZVOUS": "a:1"}, "KD_NODE_RANK is 2"),
        ({"KD_NODES": "2"}, "KD_RENDEZVOUS is None"),
        ({"KD_NODES": "2", "KD_RENDEZVOUS": "host"}, "KD_RENDEZVOUS is 'host'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(environment: dict[str, str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        from_environment(environment)
