"""Records of submissions to Slurm come back as written; damaged ones are refused with one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kd.base.files import DamagedFile
from kd.launch.slurm.records import Element, Records, Submission
from kd.pipeline.run import Run

ELEMENTS = {1: Element("a/all", "a/0123456789abcdef/all")}
# Without the defaults of `id` and `written`, which differ in each process.
WHOLE = Submission("a.sh", "a", ELEMENTS, "cafe", "afterok:7", job="8", user=1, id="0123456789abcdef", written=1.8e9)


def test_a_record_comes_back_as_written(tmp_path: Path) -> None:
    records = Records(Run(tmp_path))
    records.write(WHOLE)
    assert records.read() == [WHOLE]


def changed(**changes: Any) -> bytes:
    return json.dumps({**asdict(WHOLE), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        changed()[:40],
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b"[" * 200_000,
        b'{"written": ' + b"9" * 5000 + b"}",
        changed(elements=5),
        changed(elements={"x": {}}),
        changed(elements={"1": {"task": "a/all", "place": 5}}),
        changed(elements={"1": ["a/all", "a"]}),
        changed(job=8),
        changed(script=None),
        changed(written="now"),
        changed(user=[]),
        changed(surplus=1),
    ],
    ids=count(),
)
def test_a_damaged_record_is_one_sentence_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "slurm" / "submissions" / "1.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        Records(Run(tmp_path)).read()
    assert str(caught.value).startswith(f"{path} is damaged: ")
    assert str(caught.value).endswith(". Cancel its jobs, if squeue shows any, and remove the file.")
