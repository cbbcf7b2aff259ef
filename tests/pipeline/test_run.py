"""The folder of a run: frozen configs, links, and what it says of its plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline.run import Run, ensure_writable
from kd.pipeline.store import Store
from tests.pipeline.dummies import entry, plan, run


def links(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path.resolve() for path in folder.glob("*/*") if path.is_symlink()}


def test_a_frozen_config_is_found_by_the_beginning_of_its_hash(tmp_path: Path) -> None:
    folder, chain = Run(tmp_path / "run"), plan(entry("a"))
    name, other = folder.freeze({"seed": 1}, chain), folder.freeze({"seed": 2}, chain)
    assert name != other and folder.freeze({"seed": 1}, chain) == name
    frozen = folder.frozen(name[:6])
    assert frozen["config"] == {"seed": 1}
    assert frozen["fingerprints"] == {"a/worker-0": chain.task("a", "worker-0").fingerprint}
    with pytest.raises(UserError, match="no frozen config"):
        folder.frozen("zzz")
    with pytest.raises(UserError, match="no frozen config"):
        folder.frozen("")  # which of the two?


def test_what_is_frozen_does_not_change_when_the_recipe_does(tmp_path: Path) -> None:
    folder = Run(tmp_path / "run")
    name = folder.freeze({"seed": 1}, plan(entry("a")))
    content = (folder.folder / "configs" / f"{name}.json").read_bytes()
    folder.freeze({"seed": 1}, plan(entry("a", text="other")))
    assert (folder.folder / "configs" / f"{name}.json").read_bytes() == content


def test_links_show_what_is_published_and_keep_a_finished_run_until_another_is_whole(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), Run(tmp_path / "runs" / "demo")
    before = plan(entry("a", workers=2), entry("b"), entry("c"))
    for task in before.tasks():
        run(task, store)
    folder.show(before, store, "hash")
    finished = {task.full_name: store.paths(task).final for task in before.tasks()}
    assert links(folder.folder) == finished
    # Another setting, planned and not run to its end: all that was finished stays in reach.
    after = plan(entry("a", workers=1), entry("b", text="other"))
    folder.show(after, store, "hash")
    assert links(folder.folder) == finished
    assert folder.shown() == {name: str(path) for name, path in finished.items()}
    # Run to its end: what the recipe no longer means is no longer shown.
    new = after.task("b", "worker-0")
    run(new, store)
    folder.show(after, store, "hash")
    assert links(folder.folder) == {
        "a/worker-0": finished["a/worker-0"],
        "b/worker-0": store.paths(new).final,
    }
    assert {path.name for path in folder.folder.iterdir()} == {"a", "b", "plan.json"}
    assert all(store.paths(task).is_published() for task in before.tasks()), "links go, artifacts stay"


def test_a_link_of_the_users_in_the_runs_folder_stays(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), Run(tmp_path / "mine")
    (folder.folder / "data").mkdir(parents=True)
    (folder.folder / "data" / "corpus.en").symlink_to("/nowhere/raw/corpus.en")
    (folder.folder / "data" / "corpus.de").symlink_to("corpus.en")
    for text in ("before", "after"):
        chain = plan(entry("a", text=text), entry("b" if text == "before" else "c"))
        for task in chain.tasks():
            run(task, store)
        folder.show(chain, store, "hash")
    assert set(links(folder.folder)) == {"a/worker-0", "c/worker-0", "data/corpus.en", "data/corpus.de"}


def test_links_follow_and_survive_a_move_of_everything(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    store, folder = Store(tmp_path / "old" / "store"), Run(tmp_path / "old" / "runs" / "demo")
    (task,) = plan(entry("a")).tasks()
    run(task, store)
    folder.link(task, store)
    (tmp_path / "old").rename(tmp_path / "new")
    assert (tmp_path / "new" / "runs" / "demo" / "a" / "worker-0" / "lines").exists()


def test_links_hold_where_the_runs_folder_is_itself_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep" / "runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to("disk/deep/runs")
    store, folder = Store(tmp_path / "store"), Run(tmp_path / "runs" / "demo")
    (task,) = plan(entry("a")).tasks()
    run(task, store)
    folder.link(task, store)
    assert (folder.link_path(task) / "lines").exists()


def test_the_plan_is_written_down_and_the_store_knows_the_run(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "store"), Run(tmp_path / "run")
    assert folder.planned() == {}
    (task,) = plan(entry("a")).tasks()
    folder.show(plan(entry("a")), store, "hash")
    assert folder.planned() == {"a/worker-0": str(store.paths(task).final)}
    assert json.loads((folder.folder / "plan.json").read_text())["config"] == "hash"
    assert store.runs() == [folder.folder]


def test_a_folder_that_cannot_be_written_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Nothing can be written to .*/file/x: Not a directory\. Set run\.dir to"):
        ensure_writable(tmp_path / "file" / "x", "run.dir")
    with pytest.raises(UserError, match=r"Set store\.dir"):
        ensure_writable(tmp_path / "file", "store.dir")
    ensure_writable(tmp_path / "new" / "deep", "run.dir")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
