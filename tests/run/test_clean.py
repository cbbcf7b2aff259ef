"""`kd clean` lists artifacts that no run refers to, removes them on request, and removes nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.base.errors import UserError
from kd.pipeline.run import Run
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import clean as clean_module
from kd.run.clean import clean
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


def test_clean_removes_nothing_by_default(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(Request("mine", ()), remove=False) == 0
    told = capsys.readouterr().out
    assert told.count("worker-0") == 1 and "could be removed" in told
    assert texts(workplace / "store") == {"text", "other", "old"}


def test_clean_removes_exactly_the_artifacts_without_a_run(workplace: Path) -> None:
    assert clean(Request("mine", ()), remove=True) == 0
    assert texts(workplace / "store") == {"text", "other"}


def test_an_unwritable_store_is_an_error(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(workplace / "store" / "a" / ".lease"))

    monkeypatch.setattr(Store, "remove", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "old"}


def test_artifacts_of_a_deleted_run_are_listed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "other" / "plan.json").unlink()
    (workplace / "other").rmdir()
    clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text"}
    assert f"The run {workplace / 'other'} no longer exists" in capsys.readouterr().out
    clean(Request("mine", ()), remove=True)
    assert "All artifacts in" in capsys.readouterr().out


def test_old_artifacts_are_kept_until_new_ones_exist(workplace: Path) -> None:
    store, mine = Store(workplace / "store"), Run(workplace / "mine")
    finished = plan(entry("a", steps=1))
    mine.show(finished, store, "hash")
    mine.show(plan(entry("a", text="tried")), store, "hash")  # planned, and not run
    (workplace / "other" / "plan.json").unlink()
    clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text"}


def test_artifacts_of_a_run_that_starts_meanwhile_are_kept(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, meanwhile = Store(workplace / "store"), plan(entry("a", text="meanwhile"))
    asked = clean_module.queue.reached

    def reached(other: Run, where: Store) -> set[str]:
        found = asked(other, where)
        Run(workplace / "new").show(meanwhile, store, "hash")
        for task in meanwhile.tasks():
            run(task, store)
        return found

    monkeypatch.setattr(clean_module.queue, "reached", reached)
    clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "meanwhile"}


def test_nothing_is_removed_if_a_run_is_not_readable(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Run) -> dict[str, str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(workplace / "other" / "plan.json"))

    monkeypatch.setattr(Run, "planned", refuse)
    with pytest.raises(UserError, match=r"The run .* is not readable: .*plan\.json: Permission denied"):
        clean(Request("mine", ()), remove=True)
    assert texts(workplace / "store") == {"text", "other", "old"}


# --- links -----------------------------------------------------------------------------------------------------------

FINGERPRINT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("link", "below"),
    [
        ("notes", f"{FINGERPRINT}/chapters"),
        (f"notes/{FINGERPRINT}", "chapters"),
        (f"notes/{FINGERPRINT}/chapters", ""),
        (f"notes/{FINGERPRINT}/chapters.partial", ""),
    ],
)
def test_nothing_is_removed_through_a_link(workplace: Path, link: str, below: str) -> None:
    thesis = workplace / "thesis"
    (thesis / below).mkdir(parents=True)
    (thesis / below / "1.tex").write_text("mine")
    path = workplace / "store" / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(thesis)
    assert clean(Request("mine", ()), remove=True) == 0
    assert (thesis / below / "1.tex").read_text() == "mine"
    assert path.is_symlink() == (not path.name.startswith("chapters")), "only the link of a task is removed"
    assert texts(workplace / "store") == {"text", "other"}, "and the other artifacts are cleaned as usual"


def test_a_link_within_an_artifact_is_not_followed(workplace: Path) -> None:
    (workplace / "thesis").mkdir()
    (workplace / "thesis" / "1.tex").write_text("mine")
    (old,) = (path.parent for path in (workplace / "store").glob("a/*/worker-0/lines") if " old " in path.read_text())
    (old / "chapters").symlink_to(workplace / "thesis")
    assert clean(Request("mine", ()), remove=True) == 0
    assert not old.exists() and (workplace / "thesis" / "1.tex").exists()


def test_an_artifact_whose_folder_was_moved_and_linked_stays_in_use(workplace: Path) -> None:
    (path,) = (
        path.parent for path in (workplace / "store").glob("a/*/worker-0/lines") if " other " in path.read_text()
    )
    path.rename(workplace / "moved")
    path.symlink_to(workplace / "moved")
    assert clean(Request("mine", ()), remove=True) == 0
    assert path.is_symlink() and (workplace / "moved" / "lines").exists()


# --- damaged records, and leftovers of killed processes -----------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"tasks": 5}',
        b'{"tasks": {"a": 1}}',
        b"[" * 200_000,
        b'{"tasks": ' + b"9" * 5000,
    ],
)
def test_a_damaged_plan_of_one_run_keeps_its_artifacts(
    workplace: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store, other = Store(workplace / "store"), Run(workplace / "other")
    frozen = other.freeze({}, plan(entry("a", text="other", steps=1)))
    for link in other.folder.glob("a/*"):
        link.unlink()
    (other.folder / "plan.json").write_bytes(content)
    assert clean(Request("mine", ()), remove=True) == 0
    assert texts(workplace / "store") == {"text", "other"}
    assert "plan.json is damaged" in " ".join(capsys.readouterr().out.split())
    (other.folder / "configs" / f"{frozen}.json").write_bytes(content)
    assert clean(Request("mine", ()), remove=False) == 0
    assert store.root.exists()


def test_a_damaged_manifest_is_listed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (workplace / "store").glob("a/*/worker-0/manifest.json"):
        path.write_bytes(b"{")
    assert clean(Request("mine", ()), remove=False) == 0
    assert capsys.readouterr().out.count("its manifest is damaged") == 1


def test_temporary_files_of_killed_processes_are_removed(workplace: Path) -> None:
    store = workplace / "store"
    (mine,) = (path.parent for path in store.glob("a/*/worker-0/lines") if " text " in path.read_text())
    abandoned = store / "b" / FINGERPRINT
    abandoned.mkdir(parents=True)
    left = [abandoned / ".all.lease.0a1b", mine.parent / ".worker-0.attempts.json.0a1b2c3d"]
    for path in left:
        path.write_text("")
        os.utime(path, (0, 0))
    written_now = mine.parent / ".worker-0.progress.json.0a1b2c3d"
    written_now.write_text("")
    assert clean(Request("mine", ()), remove=True) == 0
    assert not any(path.exists() for path in left) and not abandoned.parent.exists()
    assert written_now.exists()
