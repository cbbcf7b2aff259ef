"""Sweeps: each variant has its own run, all are validated before the first starts, one status covers all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER
from kd.cli import main
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import commands

DEMO = ("run", "recipe=demo", "-m")


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was begun; nothing really is."""
    found: list[str] = []
    monkeypatch.chdir(tmp_path)

    def run(request: Request) -> int:
        found.append(request.variant)
        return {"seed-1": 0, "seed-2": EXIT_TRANSIENT, "seed-3": EXIT_USER, "seed-4": 1}[request.variant]

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(compose, "plan", lambda _: None)
    return found


def test_similar_values_of_a_sweep_have_different_folders() -> None:
    found = compose.sweep(Request("demo", ("corpus.root=/data/a,/data-a,/data/b",)))
    assert len({item.variant for item in found}) == len(found) == 3
    assert found[0].variant == "corpus.root-data-a"  # as it is without the other


def test_a_mistake_in_the_last_variant_stops_the_sweep_before_the_first(
    begun: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DEMO, "seed=1,2,three"]) == EXIT_USER
    assert begun == [] and "seed is not valid: three" in capsys.readouterr().err


@pytest.mark.parametrize(("seeds", "status"), [("1,1", 0), ("1,2", EXIT_TRANSIENT), ("2,3,1", EXIT_USER), ("4,2,3", 1)])
def test_one_status_covers_all_variants(begun: list[str], seeds: str, status: int) -> None:
    assert main([*DEMO, f"seed={seeds}"]) == status
    assert len(begun) == len(set(seeds.split(",")))
