"""Servers of chat completions on this computer: a scripted one that misbehaves, and one with a real, tiny model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[str, dict[str, Any]], Any]  # source line of the prompt, request -> a text, or a list of texts


@dataclass
class ChatServer:
    """What it answers, and what it was asked.

    Attributes:
        answer: Makes the texts of a request's choices of the text after the last `Source: `.
        faults: Consumed first, one for each request: a status, a status with headers, bytes to send instead of JSON,
            or seconds to wait.
        key: The key that requests need.
        models: The models that it has; any if empty.
        knows_n: Whether it gives several choices.
    """

    url: str = ""
    answer: Answer = lambda source, _: source.upper()
    faults: list[Any] = field(default_factory=list)
    key: str = ""
    models: tuple[str, ...] = ()
    knows_n: bool = True
    logprobs: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _now: int = 0

    def reply(self, request: dict[str, Any]) -> tuple[int, Any]:
        if self.models and request["model"] not in self.models:
            error = {"message": f"The model `{request['model']}` does not exist.", "code": "model_not_found"}
            return 404, {"error": error}
        prompt = request["messages"][-1]["content"]
        source = prompt.rsplit("Source: ", 1)[-1].split("\n")[0]
        found = self.answer(source, request)
        if isinstance(found, tuple):  # a status and a body
            return found
        texts = found if isinstance(found, list) else [found] * (request.get("n", 1) if self.knows_n else 1)
        choices = []
        for number, text in enumerate(texts):
            choice = {"index": number, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            if self.logprobs and request.get("logprobs"):
                choice["logprobs"] = {"content": [{"logprob": -0.5 * (number + 1)}] * 4}
            choices.append(choice)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(len(text or "") for text in texts)}
        return 200, {"choices": choices, "usage": usage}


@contextmanager
def chat_server(port: int = 0, **settings: Any) -> Iterator[ChatServer]:
    """A running server; port 0: a free one."""
    offered = ChatServer(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(200, {"data": [{"id": name} for name in offered.models]})

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with offered._lock:
                offered.asked.append(request)
                offered.headers.append(dict(self.headers))
                offered.moments.append(time.monotonic())
                offered._now += 1
                offered.most_at_once = max(offered.most_at_once, offered._now)
                fault = offered.faults.pop(0) if offered.faults else None
            try:
                self.handle_request(request, fault)
            finally:
                with offered._lock:
                    offered._now -= 1

        def handle_request(self, request: dict[str, Any], fault: Any) -> None:
            if self.path != "/v1/chat/completions":
                self.send(404, {"detail": "Not Found"})
            elif offered.key and self.headers.get("Authorization") != f"Bearer {offered.key}":
                shown = self.headers.get("Authorization", "")  # as OpenAI's server, which repeats the key
                self.send(401, {"error": {"message": f"Incorrect API key provided: {shown}."}})
            elif isinstance(fault, tuple):
                self.send(fault[0], {"error": {"message": "slow down"}}, fault[1])
            elif isinstance(fault, bytes):
                self.send(200, fault)
            elif isinstance(fault, float):
                time.sleep(fault)
                self.send(*offered.reply(request))
            elif fault is not None:
                self.send(fault, {"error": {"message": "an error of the server"}})
            else:
                self.send(*offered.reply(request))

        def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            stream = isinstance(body, bytes) and body.startswith(b"data:")
            try:
                self.send_response(status)
                self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):  # the client did not wait
                pass

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Handler) as server:
        offered.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield offered
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A scripted server that answers with the source in capitals."""
    with chat_server() as server:
        yield server
