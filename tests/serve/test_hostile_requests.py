"""Malformed, huge, slow and hostile requests get a 4xx answer, and the server goes on."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.serve.running import Server

GOOD = {"q": "eins.", "source": "de", "target": "en"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def still_alive(server: Server) -> Any:
    yield
    assert server.json("/translate", GOOD)[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe{}", 400),
        (b"[" * 5000, 400),
        (b'{"q":' * 2000, 400),
        (b'{"q": "eins.", "source": "de"}', 400),
        (b'{"source": "de", "target": "en"}', 400),
        (b'{"q": 3, "source": "de", "target": "en"}', 400),
        (b'{"q": {"a": 1}, "source": "de", "target": "en"}', 400),
        (b'{"q": ["a", 1], "source": "de", "target": "en"}', 400),
        (b'{"q": "\\ud800", "source": "de", "target": "en"}', 400),
        (b'{"q": "eins.", "source": "xx", "target": "en"}', 400),
        (b'{"q": "eins.", "source": "de", "target": "fr"}', 400),
        (b'{"q": "eins.", "source": "en", "target": "de"}', 400),
        (b'{"q": "eins.", "source": "de", "target": "en", "format": "pdf"}', 400),
        (b'{"q": "eins.", "source": "de", "target": "en", "alternatives": -1}', 400),
        (b'{"q": "eins.", "source": "de", "target": "en", "alternatives": 1e400}', 400),
        (b'{"q": "eins.", "source": "de", "target": "en", "model": "../../etc/passwd"}', 400),
        (json.dumps({**GOOD, "q": "x" * 2001}).encode(), 413),
        (json.dumps({**GOOD, "q": ["x"] * 51}).encode(), 413),
        (b'{"q": "' + b"x" * 200_000 + b'"}', 413),
    ],
    ids=str,
)
def test_bad_json_is_refused_in_a_sentence(server: Server, body: bytes, status: int) -> None:
    found, answer, headers = server.send("POST", "/translate", body, JSON)
    assert found == status, answer
    assert headers["content-type"] == "application/json" and json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/xml", b"<a/>", 415),
        ("application/x-www-form-urlencoded", b"q=a&source=de&target=en&alternatives=" + b"9" * 5000, 400),
        ("application/x-www-form-urlencoded", b"&".join(b"q=%d" % n for n in range(5000)), 400),
        ("application/x-www-form-urlencoded", b"%", 400),
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"garbage", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n',
         400),
    ],
)  # fmt: skip
def test_bad_forms_are_refused(server: Server, kind: str, body: bytes, status: int) -> None:
    found, answer, _ = server.send("POST", "/translate", body, {"Content-Type": kind})
    assert found == status, answer
    assert json.loads(answer)["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/translate", 405), ("DELETE", "/health", 405), ("GET", "/../../etc/passwd", 404),
        ("GET", "/page/../app.py", 404), ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404), ("GET", "/%ff%00", 404),
    ],
)  # fmt: skip
def test_other_paths_and_methods_are_refused(server: Server, method: str, path: str, status: int) -> None:
    found, answer, _ = server.send(method, path)
    assert found == status and b"root:" not in answer


def raw(server: Server, data: bytes) -> bytes:
    """Send bytes; return the first that come back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(data)
        return connection.recv(65536)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000,  # a head without end
        b"POST /translate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_broken_http_is_refused(server: Server, data: bytes) -> None:
    assert raw(server, data).startswith(b"HTTP/1.1 4")


def test_a_body_without_end_is_refused_at_its_limit(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /translate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")


def test_heads_and_bodies_that_do_not_arrive_are_given_up(folders: tuple[Path, Path]) -> None:
    import uvicorn

    from kd.serve.app import application
    from kd.serve.limits import Limits
    from kd.serve.metrics import Metrics
    from kd.serve.models import Models
    from kd.serve.server import _protocol, listen

    models = Models([folders[0]], beam=1, threads=1, device="cpu", waiting=4, observe=lambda *_: None)
    limits = Limits(reading=0.2)
    app = application(models, Metrics(), limits, beam=1, key=None, origins=[])
    listening = listen("127.0.0.1", 0)
    running = uvicorn.Server(uvicorn.Config(app, http=_protocol(limits.reading), log_level="error"))
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    try:
        head = b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
        for sent in (b"", head, head + b"\r\n{"):
            with socket.create_connection(listening.getsockname(), timeout=60) as connection:
                connection.sendall(sent)
                assert connection.recv(65536).startswith(b"HTTP/1.1 408")
    finally:
        running.should_exit = True
        thread.join()
