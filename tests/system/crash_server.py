"""Runs commands of kd one after the other, each in a process forked from this one, which has imported kd's modules.

So a trial of a crash point takes a fraction of a second instead of some seconds. Each line of standard input is a JSON
object: `arguments`; `settings`, environment variables of the preloaded library; `log`, a file for the output. The
answer is a line with the exit status, negative for a signal.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import traceback
from typing import Any, NoReturn

from kd.cli import main


def run(request: dict[str, Any], report: int) -> NoReturn:
    """Run a command in this process; write the names of the modules that it has imported to the pipe `report`."""
    os.setsid()  # the library kills the process group
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["settings"])
    ctypes.CDLL(None).crash_arm()
    try:
        status = main(request["arguments"])
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, "\n".join(name for name in sys.modules if name.startswith("kd.")).encode())
    os._exit(status)


def serve() -> None:
    """Answer requests until standard input ends."""
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            run(json.loads(line), writer)
        os.close(writer)
        with os.fdopen(reader) as report:
            names = report.read().split()
        _, status = os.waitpid(child, 0)
        if "kd.engines.fairseq.compat" in names:  # before any other module imports fairseq
            importlib.import_module("kd.engines.fairseq.compat").install()
        for name in names:
            if name not in sys.modules:
                importlib.import_module(name)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
