"""What a task's process is started with."""

from __future__ import annotations

import pytest

from kd.launch.environment import environment


def test_threads_are_the_same_for_every_library() -> None:
    added = environment(3)
    assert {added[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KD_THREADS")} == {
        "3"
    }


def test_a_gpu_is_counted_among_those_allotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert environment(1, [1])["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environment(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert environment(1, [1])["CUDA_VISIBLE_DEVICES"] == "7"
    assert environment(1)["CUDA_VISIBLE_DEVICES"] == "4,7"
