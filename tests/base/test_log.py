"""Messages of kd: printed by commands, redirected by programs that use kd, with progress where no terminal is."""

from __future__ import annotations

import ast
import logging
import threading
from pathlib import Path

import pytest

from kd.base import bar
from kd.base.bar import Bar
from kd.base.log import print_messages

PACKAGE = Path(__file__).parents[2] / "kd"
# Modules whose output is what a program or a person asked for: the commands, and programs that print for their parents.
PRINTERS = {"cli", "container", "doctor", "engines/fairseq/__main__.py", "engines/fairseq/train.py", "run"}
PRINTERS |= {"base/log.py", "corpora/mtdata_index.py", "engines/fairseq/trial.py"}
PRINTERS |= {"planning/probe_worker.py", "report/evaluation_card.py", "serve/server.py"}


@pytest.fixture
def tree() -> logging.Logger:
    """The tree `kd` without handlers, as it is in a program that imports kd."""
    tree = logging.getLogger("kd")
    before = list(tree.handlers), tree.level
    tree.handlers, tree.level = [], logging.NOTSET
    yield tree
    tree.handlers, tree.level = before


def test_commands_print_messages_once(tree: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    print_messages()
    print_messages()
    logging.getLogger("kd.base.progress").info("half of %d lines", 10)
    logging.getLogger("kd.cli").warning("a line is empty")
    logging.getLogger("another").info("not of kd")
    assert capsys.readouterr().err == "half of 10 lines\nkd: a line is empty\n"


def test_warnings_of_libraries_and_errors_of_threads_have_no_secrets(
    tree: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may log a part of a URL when it repeats a request."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setenv("HF_TOKEN", "hf_S3CRET")
    print_messages()
    assert logging.lastResort is not None
    logging.lastResort.handle(
        logging.LogRecord("library", logging.WARNING, "", 1, "Retrying: /x?sig=%s", ("T1",), None)
    )

    def fail() -> None:
        raise ValueError("a bug at hf_S3CRET, https://alice:hunter2@h/x")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert told.startswith("Retrying: /x?sig=***\n") and told.endswith("ValueError: a bug at ***, https://h/x\n")


def test_a_program_redirects_the_tree(tree: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.FileHandler(tmp_path / "log")
    tree.addHandler(handler)
    logging.getLogger("kd.engines.translator").warning("slow")
    handler.close()
    assert (tmp_path / "log").read_text() == "slow\n"
    assert capsys.readouterr().err == ""


def test_progress_is_a_line_now_and_then_without_a_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "kd"), Bar("selecting", 2000, "lists") as shown:
        for _ in range(4):
            now[0] += 20
            shown.advance(250)
    # After 40 s, 500 of 2,000 lists are done: 1,500 at 12.5 per second take 120 s. At 80 s, half of the time is left.
    assert caplog.messages == [
        "selecting: 500 of 2,000 lists, 2 min 00 s left",
        "selecting: 1,000 of 2,000 lists, 1 min 20 s left",
    ]


def test_all_loggers_are_in_the_tree_and_only_commands_print() -> None:
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "logging.getLogger" and node.args and name != "engines/fairseq/compat.py":
                assert ast.unparse(node.args[0]).startswith(("__name__", "'kd")), f"{name}:{node.lineno}"
            if called == "print":
                assert name in PRINTERS or name.partition("/")[0] in PRINTERS, f"{name}:{node.lineno}"
