"""Processes that run fairseq get their threads, this kd, and an allocator that keeps its memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kd.engines.fairseq.environment import process_environment


def test_threads_and_import_path_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = process_environment(3)
    assert {found[name] for name in found if name.endswith("_NUM_THREADS")} == {"3"}
    assert found["PYTHONPATH"].split(os.pathsep)[1:] == ["/somewhere"]


def test_a_users_own_allocator_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert process_environment(1)["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=1"


def test_large_blocks_are_not_faulted_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten blocks of 64 MB, one after the other: 16,384 pages of 4 kB each, from the kernel every time by default.
    program = (
        "import resource, torch\n"
        "for _ in range(10): torch.empty(16_000_000).fill_(1.0)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )

    def faults(environment: dict[str, str]) -> int:
        return int(subprocess.check_output([sys.executable, "-c", program], env=environment))

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    by_default = {**process_environment(1)}
    del by_default["GLIBC_TUNABLES"]
    assert faults(process_environment(1)) < faults(by_default) - 100_000
