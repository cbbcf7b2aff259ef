"""`kd verify` finds every difference between an artifact and its manifest, and prints how to make it again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.pipeline.run import Run
from kd.pipeline.store import ArtifactPaths, Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import verify
from tests.pipeline.dummies import entry, plan, run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with the artifact `a` of the run `mine`, and `b`, which no run has."""
    store, mine, other = Store(tmp_path / "store"), plan(entry("a")), plan(entry("b"))
    for task in (*mine.tasks(), *other.tasks()):
        run(task, store)
    Run(tmp_path / "mine").show(mine, store, "hash", "recipe=mine a.steps=3")
    config = OmegaConf.create({"store": {"dir": str(store.root)}, "recipe": "mine"})
    monkeypatch.setattr(compose, "compose", lambda _: config)
    monkeypatch.setattr(compose, "plan", lambda _: mine)
    return store


def artifact(store: Store, stage: str) -> ArtifactPaths:
    (found,) = [paths for paths in store.all_paths() if paths.final.parent.parent.name == stage]
    return found


def test_sound_artifacts_give_status_0(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.verify(None) == 0
    assert "all 2 artifacts" in capsys.readouterr().out
    assert verify.verify(Request("mine", ())) == 0
    assert "mine: all 1 artifacts" in capsys.readouterr().out


def flip_a_bit(paths: ArtifactPaths) -> None:
    path = paths.final / "lines"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def shorten(paths: ArtifactPaths) -> None:
    (paths.final / "lines").write_bytes(b"")


def remove(paths: ArtifactPaths) -> None:
    (paths.final / "lines").unlink()


def damage_the_manifest(paths: ArtifactPaths) -> None:
    (paths.final / "manifest.json").write_bytes(b"{")


def damage_an_entry(paths: ArtifactPaths) -> None:
    path = paths.final / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": {"lines": 5}}))


def exchange_the_manifest(paths: ArtifactPaths) -> None:
    path = paths.final / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 16}))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip_a_bit, "has different content"),
        (shorten, "has 0 bytes instead of"),
        (remove, "is missing"),
        (damage_the_manifest, "is damaged"),
        (damage_an_entry, "its entry in the manifest is damaged"),
        (exchange_the_manifest, "is the manifest of a/0000000000000000/worker-0"),
    ],
)
def test_a_broken_artifact_is_listed_with_its_remedy(
    store: Store, damage: object, problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    damage(artifact(store, "a"))  # type: ignore[operator]
    assert verify.verify(None) == 1
    told = capsys.readouterr().out
    assert problem in told and "1 of 2 artifacts are broken" in told
    command = f"rm -r {shlex.quote(str(artifact(store, 'a').final))} && kd run recipe=mine a.steps=3 upto=a"
    assert command in told
    assert verify.verify(Request("mine", ("a.steps=3",))) == 1
    assert command in capsys.readouterr().out


def test_an_artifact_that_no_run_has_is_listed_too(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    flip_a_bit(artifact(store, "b"))
    assert verify.verify(None) == 1
    assert "no run refers to it" in capsys.readouterr().out


def test_progress_counts_all_bytes(store: Store) -> None:
    read: list[int] = []
    assert verify.check(store.all_paths(), read.append) == []
    assert sum(read) == sum(paths.manifest()["bytes"] for paths in store.all_paths()) > 0
