"""What a task's process is started with."""

from __future__ import annotations

import pytest

from kd.launch.environment import OFFLINE, environment, variables
from kd.stages import KINDS, load_kind


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


def test_only_collect_may_use_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    assert [name for name in KINDS if load_kind(name).network] == ["collect", "collect_source"]
    # As huggingface_hub, transformers, datasets, wandb and pip document them.
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    offline |= {"WANDB_MODE": "offline", "PIP_NO_INDEX": "1"}
    assert environment(1).items() >= offline.items()
    assert not set(offline) & set(environment(1, network=True))
    assert not set(offline) & set(variables(1, network=True))


def test_the_user_s_own_word_on_the_network_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert environment(1)["WANDB_MODE"] == "online"
    assert environment(1, network=True)["WANDB_MODE"] == "online"
    assert variables(1)["WANDB_MODE"] == "online"
