"""Starts `kd serve` as a user does, on a free port of this machine, and sends it requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

PATIENCE = 60  # seconds; test machines are busy


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def send(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a request; return status, body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def json(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Post an object as JSON, or get a page without one; return the status and the answer."""
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        status, answer, _ = self.send(method, path, content, {"Content-Type": "application/json", **headers})
        return status, json.loads(answer)

    def form(self, path: str, fields: Any) -> tuple[int, Any]:
        """Post fields as a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        status, answer, _ = self.send("POST", path, urlencode(fields, doseq=True), kind)
        return status, json.loads(answer)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def serving(*options: str | Path, **environment: str) -> Iterator[Server]:
    """Run `kd serve` until the end of the block."""
    command = [sys.executable, "-m", "kd", "serve", "--port", "0", "--threads", "2", *map(str, options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving at http://[^ ]*:(\d+)/", line):
                break
        else:
            raise AssertionError("".join(said))
        yield Server(process, int(found[1]))
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()
