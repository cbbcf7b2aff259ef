"""The figures of a running server, in Prometheus' text format."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LINES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second series for each counter
        self._registry = CollectorRegistry()
        self._requests = Counter("kd_requests", "Answered requests.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "kd_request_seconds", "Seconds until a request is answered.", ["path"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._lines = Histogram(
            "kd_batch_lines", "Lines that models translated.", ["model"], buckets=LINES,
            registry=self._registry,
        )  # fmt: skip
        self._letters = Counter(
            "kd_translated_characters", "Characters that models translated.", ["model"], registry=self._registry
        )
        self._waiting = Gauge(
            "kd_requests_waiting", "Requests that wait or are being processed.", registry=self._registry
        )
        ProcessCollector(registry=self._registry)

    def batch(self, model: str, lines: int, letters: int) -> None:
        """Count a translated batch."""
        self._lines.labels(model).observe(lines)
        self._letters.labels(model).inc(letters)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Set the function that counts the waiting requests."""
        self._waiting.set_function(waiting)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def page(self) -> bytes:
        """Return all figures."""
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware that counts requests and adds headers for browsers. Unknown paths are counted as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 500, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.answered(path, status, time.perf_counter() - start)


_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " \
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # fmt: skip
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
