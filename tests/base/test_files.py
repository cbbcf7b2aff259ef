"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from kd.base.files import rename_folder, sync_folder, write_json, write_text
from tests.pipeline.small_disk import SmallDisk


def write_for_ever(path: Path) -> None:
    number = 0
    while True:
        number += 1
        write_json(path, {"number": number, "filling": "x" * 200_000})


def test_whatever_dies_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"number": 0, "filling": "x" * 200_000})
    moments = random.Random(7)
    for _ in range(8):
        process = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path,))
        process.start()
        time.sleep(moments.uniform(0.01, 0.1))
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert len(json.loads(path.read_text())["filling"]) == 200_000


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "file", "a\r\nb\u2028c\x0bü\n")
    assert (tmp_path / "new" / "file").read_bytes() == b"a\r\nb\xe2\x80\xa8c\x0b\xc3\xbc\n"


def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk")
    code = """
import sys
from pathlib import Path
from kd.base.files import write_text
path = Path(sys.argv[1], "file")
write_text(path, "old")
try:
    write_text(path, "x" * 1_000_000)
except OSError as error:
    print(error.strerror)
"""
    told = disk.run(code, str(disk.folder))
    assert (told.stdout, told.stderr) == (f"{disk.reason}\n", "")
    saved = tmp_path / "saved"
    assert {path.name: path.read_text() for path in saved.iterdir()} == {"file": "old"}


def test_a_folder_below_a_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "file" / "x", "text")
    assert error.value.errno in (errno.ENOTDIR, errno.EEXIST)


def test_folders_are_flushed_whatever_lies_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("text")
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")  # opening one without a writer would wait for ever
    sync_folder(folder)
    rename_folder(folder, tmp_path / "final")
    assert (tmp_path / "final" / "deep" / "file").read_text() == "text"
    assert not folder.exists()


def test_a_disk_that_turns_out_full_when_flushed_is_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Quotas and network file systems tell it here, if at all.
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        sync_folder(tmp_path)
