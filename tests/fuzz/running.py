"""Runs a reader on mutated inputs and collects the inputs that it does not handle."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from kd.base.errors import IncompleteArtifact, UserError
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import Reader

SECONDS = 20  # an input may take; the machine may be busy, and each takes milliseconds


class HangError(Exception):
    """An input that took more than `SECONDS`."""


def failures(reader: Reader, inputs: int, seed: int = 1) -> list[str]:
    """Return a line for each input that ends in anything but a result or a UserError; `inputs` are tried."""
    content, found = reader.content(), []
    for number in range(inputs):
        change = mutated(content, random.Random(f"{seed} {reader.name} {number}"))
        folder = Path(tempfile.mkdtemp(prefix="kd-fuzz-"))
        try:
            (folder / "input").write_bytes(change)
            with limited():
                reader.check(folder / "input")
        except (UserError, IncompleteArtifact):
            pass
        except Exception as error:
            found.append(f"{reader.name}, input {number}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            shutil.rmtree(folder)
    return found


@contextmanager
def limited() -> Iterator[None]:
    """Raise HangError in a block that takes more than `SECONDS`."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
