"""`kd clean`: what no run reaches is listed, and goes on request; everything else stays."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.base.errors import UserError
from kd.pipeline.run import Run
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import commands
from tests.pipeline.dummies import entry, plan, run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with what the run `mine` reaches, what `other` reaches, and what neither reaches any more."""
    store = Store(tmp_path / "store")
    mine, other, old = plan(entry("a", steps=1)), plan(entry("a", text="other", steps=1)), plan(entry("a", text="old"))
    for name, chain in (("mine", mine), ("other", other)):
        Run(tmp_path / name).show(chain, store, "hash")
    for chain in (mine, other, old):
        for task in chain.tasks():
            run(task, store)
    config = OmegaConf.create({"store": {"dir": str(tmp_path / "elsewhere" / ".." / "store")}})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(compose, "compose", lambda _: config)
    monkeypatch.setattr(compose, "plan", lambda _: mine)
    return tmp_path


def texts(store: Path) -> set[str]:
    return {path.read_text().split()[1] for path in store.glob("a/*/worker-0/lines")}


def test_it_lists_and_removes_nothing_unless_asked(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.clean(Request("mine", ()), remove=False) == 0
    told = capsys.readouterr().out
    assert told.count("worker-0") == 1 and "could be removed" in told
    assert texts(workplace / "store") == {"text", "other", "old"}


def test_it_removes_what_no_run_reaches_and_only_that(workplace: Path) -> None:
    assert commands.clean(Request("mine", ()), remove=True) == 0
    assert texts(workplace / "store") == {"text", "other"}


def test_a_store_that_cannot_be_written_to_is_told(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(workplace / "store" / "a" / ".lease"))

    monkeypatch.setattr(Store, "remove", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        commands.clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "old"}


def test_a_run_that_was_deleted_reaches_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "other" / "plan.json").unlink()
    (workplace / "other").rmdir()
    commands.clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text"}
    assert f"The run {workplace / 'other'} is not there" in capsys.readouterr().out
    commands.clean(Request("mine", ()), remove=True)
    assert "Nothing in" in capsys.readouterr().out


def test_a_finished_run_stays_in_reach_while_another_setting_is_tried(workplace: Path) -> None:
    store, mine = Store(workplace / "store"), Run(workplace / "mine")
    finished = plan(entry("a", steps=1))
    mine.show(finished, store, "hash")
    mine.show(plan(entry("a", text="tried")), store, "hash")  # planned, and not run
    (workplace / "other" / "plan.json").unlink()
    commands.clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text"}


def test_what_a_run_makes_that_begins_meanwhile_stays(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, meanwhile = Store(workplace / "store"), plan(entry("a", text="meanwhile"))
    asked = commands.queue.reached

    def reached(other: Run, where: Store) -> set[str]:
        found = asked(other, where)
        Run(workplace / "new").show(meanwhile, store, "hash")
        for task in meanwhile.tasks():
            run(task, store)
        return found

    monkeypatch.setattr(commands.queue, "reached", reached)
    commands.clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "meanwhile"}


def test_where_a_run_may_not_be_looked_at_nothing_is_removed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Run) -> dict[str, str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(workplace / "other" / "plan.json"))

    monkeypatch.setattr(Run, "planned", refuse)
    with pytest.raises(UserError, match=r"What the run .* reaches cannot be told: .*plan\.json: Permission denied"):
        commands.clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "old"}
