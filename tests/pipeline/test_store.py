"""The store: what lies in it, and what is removed from it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from kd.base import hashing
from kd.base.errors import UserError
from kd.base.hashing import FileHashes
from kd.base.lease import Lease
from kd.pipeline.store import ArtifactPaths, Store, folder_bytes
from tests.pipeline.dummies import only, run


def closed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let nothing below a folder be looked at, as its mode would for anybody but the superuser."""
    real = os.stat

    def stat(path: str | Path, **options: bool) -> os.stat_result:
        if Path(path).is_relative_to(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_places_are_all_that_hold_anything(store: Store) -> None:
    done, failed = only(steps=1), only("resume", steps=1, mishap="user")
    run(done, store)
    with pytest.raises(UserError):
        run(failed, store)
    store.file_hashes()
    store.register(store.root / "some-run")
    (store.root / "stray").touch()
    (store.root / "stage" / "stray").touch()
    (store.root / "corpora" / "en-de" / "raw").mkdir(parents=True)  # a store.dir that holds other things as well
    assert {paths.final for paths in store.all_paths()} == {store.paths(task).final for task in (done, failed)}


def test_one_is_removed_with_all_beside_it(store: Store) -> None:
    task = only(steps=1)
    run(task, store)
    paths = store.paths(task)
    (paths.final.parent / f".{paths.progress.name}.0123abcd").touch()  # by a process that was killed
    store.remove(paths)
    assert list(store.root.iterdir()) == []


def test_a_name_that_begins_another_name_is_not_taken_for_it(store: Store) -> None:
    paths, other = ArtifactPaths(store.root / "s" / "f" / "6"), ArtifactPaths(store.root / "s" / "f" / "6.1")
    for each in (paths, other):
        each.final.mkdir(parents=True)
        each.lineage.touch()
    store.remove(paths)
    assert other.final.is_dir() and other.lineage.exists() and not paths.final.exists()


def test_a_removal_finishes_an_interrupted_one(store: Store) -> None:
    task = only(steps=1)
    run(task, store)
    paths = store.paths(task)
    left = paths.final.with_name(f".{paths.final.name}.removed-0123")
    left.mkdir()
    (left / "lines").touch()
    store.remove(paths)
    assert not (store.root / "stage").exists()
    left.mkdir(parents=True)
    store.sweep()
    assert not (store.root / "stage").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 512, b"\xff"])
def test_a_record_that_is_damaged_is_told_with_its_path(store: Store, content: bytes) -> None:
    task = only(steps=1)
    run(task, store)
    paths = store.paths(task)
    (paths.final / "manifest.json").write_bytes(content)
    with pytest.raises(
        UserError, match=rf"{paths.final}/manifest\.json is damaged: .* Remove the folder {paths.final}:"
    ):
        paths.manifest()


def test_one_that_is_being_worked_on_is_not_removed(store: Store) -> None:
    task = only(steps=1)
    run(task, store)
    paths = store.paths(task)
    with Lease.acquire(paths.lease), pytest.raises(UserError, match="is working on"):
        store.remove(paths)
    assert paths.is_published()


def test_one_store_has_one_spelling(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    spellings = [tmp_path / "real", tmp_path / "link", tmp_path / "real" / ".." / "link"]
    assert len({Store(path).paths(only()).final for path in spellings}) == 1


def test_runs_are_remembered_while_they_exist(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        store.register(tmp_path / name)
        store.register(tmp_path / name)
    (tmp_path / "one").rmdir()
    assert store.runs() == [tmp_path / "two"] and store.runs_gone() == [tmp_path / "one"]


def test_a_run_in_a_folder_that_is_closed_to_us_counts_as_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.register(tmp_path / "closed" / "run")
    closed(monkeypatch, tmp_path / "closed")
    assert store.runs() == [tmp_path / "closed" / "run"]


def test_bytes_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    (tmp_path / "b").symlink_to("deep/a")
    assert folder_bytes(tmp_path) == 5


# --- hashes of raw files -------------------------------------------------------------------------------------------

# printf abc | sha256sum
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_is_hashed_again_only_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "file", tmp_path / "cache.json"
    path.write_text("abc")
    assert FileHashes(cache)(path) == ABC
    read: list[Path] = []
    real = hashing.sha256
    monkeypatch.setattr(hashing, "sha256", lambda path: [read.append(path), real(path)][1])
    monkeypatch.chdir(tmp_path)
    assert FileHashes(cache)(path) == FileHashes(cache)(Path("file")) == ABC and read == []
    path.write_text("abd")
    os.utime(path, ns=(1, 1))
    assert FileHashes(cache)(path) != ABC and read == [path]


def test_a_cache_that_is_broken_or_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abc")
    for content in ("", "[1]", "{"):
        (tmp_path / "cache").write_text(content)
        assert FileHashes(tmp_path / "cache")(tmp_path / "file") == ABC
    assert json.loads((tmp_path / "cache").read_text())
    assert FileHashes(tmp_path / "file" / "cache")(tmp_path / "file") == ABC


def test_a_file_that_is_known_and_closed_to_us_now_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("abc")
    hashes = FileHashes(tmp_path / "cache")
    hashes(tmp_path / "file")
    closed(monkeypatch, tmp_path)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        hashes(tmp_path / "file")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "cache")
    with pytest.raises(UserError, match=r"The file .*/nothing does not exist"):
        hashes(tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        hashes(tmp_path)
