"""Start a server for the task that uses it, such as vLLM on the GPUs of a job, and end it with the task."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from kd.base.errors import UserError
from kd.base.processes import die_with_parent
from kd.engines.endpoint.description import Endpoint, filled

_LOG = logging.getLogger(__name__)
POLL_SECONDS = 1.0  # between two checks whether the server answers
END_SECONDS = 30.0  # that a server has to end before it is killed


@contextmanager
def running(endpoint: Endpoint, say: Callable[[str], None] = lambda _: None) -> Iterator[Endpoint]:
    """Yield the endpoint with the address of its server, which is started if the settings have a command for that.

    Args:
        endpoint: The teacher; its setting `start` is the command.
        say: Receives messages while the task waits for the server.

    Raises:
        UserError: The command cannot be started, ends, or does not answer in time.
    """
    settings = endpoint.settings
    if settings.start is None:
        yield endpoint
        return
    values = {"port": str(_free_port()), "model": endpoint.model}
    ready = replace(endpoint, settings=replace(settings, url=filled(str(settings.url), values)))
    command = [filled(word, values) for word in shlex.split(settings.start)]
    _LOG.info("starting the server: %s", shlex.join(command))
    try:
        # Its output goes to the log of the task.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - no threads here yet
        )
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be started: {error.strerror}.", f"Correct {endpoint.where}.start."
        ) from None
    try:
        say("waiting for the server")
        _wait(process, ready)
        yield ready
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], endpoint: Endpoint) -> None:
    """Return once the server answers. Raise UserError if it ends or takes too long."""
    import requests

    url, minutes = str(endpoint.settings.url).rstrip("/"), endpoint.settings.start_minutes
    deadline = time.monotonic() + 60 * minutes
    with requests.Session() as session:
        session.trust_env = False  # no proxy to this computer
        while True:
            if process.poll() is not None:
                raise UserError(
                    f"The server of {endpoint.where} ended with status {process.returncode} before it answered; "
                    "its messages are in the log of the task.",
                    f"Correct {endpoint.where}.start.",
                )
            with contextlib.suppress(requests.RequestException):
                if session.get(f"{url}/models", timeout=10).status_code < 500:  # llama.cpp answers 503 while it loads
                    return
            if time.monotonic() > deadline:
                raise UserError(
                    f"The server of {endpoint.where} does not answer at {url} after {minutes:g} minutes.",
                    f"Correct {endpoint.where}.start, or raise {endpoint.where}.start_minutes.",
                )
            time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
            return


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
