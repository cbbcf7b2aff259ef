"""Prints kd's messages: all modules log to loggers below `kd`, which other programs can redirect."""

from __future__ import annotations

import logging
import sys


class _Printer(logging.Handler):
    """Writes messages to the current standard error, with warnings and errors as `kd: …`."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "kd: " if record.levelno >= logging.WARNING else ""
        try:
            print(prefix + record.getMessage(), file=sys.stderr, flush=True)
        except OSError:  # a closed terminal or a full disk: the work matters more
            pass


def print_messages() -> None:
    """Print messages of the loggers below `kd`, from level INFO up, to standard error. Every command calls it first."""
    tree = logging.getLogger("kd")
    if not any(isinstance(handler, _Printer) for handler in tree.handlers):
        tree.addHandler(_Printer())
        tree.setLevel(logging.INFO)
