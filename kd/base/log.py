"""Print kd's messages: all modules log to loggers below `kd`, which other programs can redirect."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType

from kd.base.urls import mask_output


class _Printer(logging.Handler):
    """Write messages to the current standard error, with kd's own warnings and errors as `kd: …`."""

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name == "kd" or record.name.startswith("kd.")
        prefix = "kd: " if ours and record.levelno >= logging.WARNING else ""
        try:
            print(prefix + mask_output(self.format(record)), file=sys.stderr, flush=True)
        except OSError:  # a closed terminal or a full disk: the work matters more
            pass


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, as Python does, without secrets of URLs."""
    print(mask_output("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr, flush=True)


def _print_masked_of_thread(given: threading.ExceptHookArgs) -> None:
    """Print the traceback of an error that ends a thread, without secrets of URLs."""
    if given.exc_type is not SystemExit and given.exc_value is not None:
        _print_masked(given.exc_type, given.exc_value, given.exc_traceback)


def print_messages() -> None:
    """Print messages of the loggers below `kd`, from level INFO up, to standard error. Every command calls it first.

    These messages, the warnings of libraries without a handler of their own, and the traceback of an error that ends
    the process or a thread have no secrets of URLs.
    """
    if sys.excepthook is sys.__excepthook__:  # else it is a debugger's
        sys.excepthook = _print_masked
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_masked_of_thread
    if not isinstance(logging.lastResort, _Printer):
        logging.lastResort = _Printer(logging.WARNING)
    tree = logging.getLogger("kd")
    if not any(isinstance(handler, _Printer) for handler in tree.handlers):
        tree.addHandler(_Printer())
        tree.setLevel(logging.INFO)
