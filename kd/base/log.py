"""Print kd's messages: all modules log to loggers below `kd`, which other programs can redirect."""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType

from kd.base.urls import mask_output


class _Printer(logging.Handler):
    """Write messages to the current standard error, with warnings and errors as `kd: …`."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "kd: " if record.levelno >= logging.WARNING else ""
        try:
            print(prefix + mask_output(record.getMessage()), file=sys.stderr, flush=True)
        except OSError:  # a closed terminal or a full disk: the work matters more
            pass


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, as Python does, without secrets of URLs."""
    print(mask_output("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr, flush=True)


def print_messages() -> None:
    """Print messages of the loggers below `kd`, from level INFO up, to standard error. Every command calls it first.

    Messages and the traceback of an error that ends the process have no secrets of URLs.
    """
    if sys.excepthook is sys.__excepthook__:  # else it is a debugger's
        sys.excepthook = _print_masked
    tree = logging.getLogger("kd")
    if not any(isinstance(handler, _Printer) for handler in tree.handlers):
        tree.addHandler(_Printer())
        tree.setLevel(logging.INFO)
