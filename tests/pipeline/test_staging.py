"""Trainings read their inputs from a fast local folder, where there is room for them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.pipeline import staging
from kd.pipeline.execute import execute
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from tests.pipeline import dummies
from tests.pipeline.dummies import entry, plan

OPENED: list[str] = []


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        OPENED.append(arguments[0])


sys.addaudithook(_count)


def chain() -> Plan:
    """Data, and a training that reads it many times."""
    return plan(entry("data"), entry("model", kind="reader", inputs={"many": {"x": "data"}}))


def train(store: Store, scratch: str | None) -> list[str]:
    """Run the chain; return the files of the data in the store that the training opened."""
    first, second = chain().tasks()
    dummies.run(first, store)
    OPENED.clear()
    execute(second, store, threads=1, device="cpu", machine={}, scratch=scratch)
    data = store.paths(first).final
    return [path for path in OPENED if path == str(data / "lines")]


def test_only_the_copy_reads_the_shared_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(train(Store(tmp_path / "without"), None)) == dummies.Reader.epochs
    monkeypatch.setenv("LOCAL", str(tmp_path / "nvme"))
    assert len(train(Store(tmp_path / "with"), "$LOCAL/me")) == 1
    assert list((tmp_path / "nvme" / "me").iterdir()) == [], "copies are removed"


def test_inputs_that_do_not_fit_are_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kd")
    monkeypatch.setattr(staging, "SHARE", 0.0)
    assert len(train(Store(tmp_path / "store"), str(tmp_path / "nvme"))) == dummies.Reader.epochs
    assert "do not fit into" in caplog.text
    (tmp_path / "file").touch()
    monkeypatch.undo()
    assert len(train(Store(tmp_path / "other"), str(tmp_path / "file" / "x"))) == dummies.Reader.epochs
    assert "cannot be copied" in caplog.text


def test_a_variable_that_the_job_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL", raising=False)
    with pytest.raises(UserError, match=r"machine\.scratch is \$LOCAL/me, but one of its variables"):
        train(Store(tmp_path), "$LOCAL/me")
