"""A server on this machine that tests download from: it knows ranges, and fails in the ways that servers do."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Server:
    """What it offers, and what it was asked. `breaks`: after so many bytes an answer is cut off, one entry each."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Range
    login: str = ""  # user:password that every request needs
    parameters: str = ""  # query that every request needs
    reason: str = ""  # phrase of a refusal


@contextmanager
def serve() -> Iterator[Server]:
    """A running server."""
    offered = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            offered.asked.append((self.path, self.headers.get("Range", "")))
            wanted = "Basic " + base64.b64encode(offered.login.encode()).decode()
            if offered.login and self.headers.get("Authorization") != wanted:
                self.send_error(401, offered.reason or None)
                return
            address, _, query = self.path.partition("?")
            if offered.parameters and query != offered.parameters:
                self.send_error(403, offered.reason or None)
                return
            if offered.statuses:
                self.send_error(offered.statuses.pop(0))
                return
            content = offered.files.get(address if offered.parameters else self.path)
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hash(content)}"'
            start, status = 0, 200
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked and offered.ranges and self.headers.get("If-Range") in (None, tag):
                start, status = int(asked.group(1)), 206
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            part = content[start:]
            if offered.breaks:
                part = part[: offered.breaks.pop(0)]
                self.close_connection = True
            self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        offered.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in ("no_proxy", "NO_PROXY"):  # whatever proxy there is, it does not know this server
                    patch.setenv(name, "127.0.0.1")
                yield offered
        finally:
            server.shutdown()
            thread.join()
