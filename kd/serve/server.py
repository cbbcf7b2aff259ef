"""Run the server: socket, connections, shutdown."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kd.base.errors import UserError

CONNECTIONS = 200  # beside those that wait for translations
LAST_PORT = 65535
STOPPING = 30  # seconds that requests in progress have when the server is stopped
_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 chooses a free one.

    Raises:
        UserError: The address cannot be used.
    """
    hint = "Give another --host or --port."
    if not 0 <= port <= LAST_PORT:  # glibc takes 70000 for 4464
        raise UserError(f"{port} is not a port number; the highest is {LAST_PORT}.", hint)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = (
            os.strerror(error.errno or 0) if type(error) is OSError or isinstance(error, PermissionError) else error
        )
        raise UserError(f"Cannot listen on {host}, port {port}: {reason}.", hint) from None


def is_local(listening: socket.socket) -> bool:
    """Return whether only this machine reaches a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def serve(app: Any, listening: socket.socket, *, connections: int, reading: float) -> None:
    """Serve until SIGINT or SIGTERM, then finish the current requests.

    Args:
        app: The ASGI application.
        listening: The socket.
        connections: Largest number of connections; further ones are answered with status 503.
        reading: Seconds within which the head of a request has to arrive.
    """
    config = uvicorn.Config(
        app,
        http=_protocol(reading),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=STOPPING,
        backlog=512,
    )
    # uvicorn raises the signal that stopped it once more after its end; the server ends with status 0 instead.
    before = {number: signal.signal(number, _ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(_number: int, _frame: object) -> None:
    print("kd: the server has stopped.", file=sys.stderr)


def _protocol(reading: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol for HTTP with a time limit for the head of a request, which uvicorn lacks."""

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop()
            elif self._timer is None:
                self._start()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _start(self) -> None:
            self._timer = self.loop.call_later(reading, self._late)

        def _stop(self) -> None:
            if self._timer:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.write(_LATE)
                self.transport.close()

    return Protocol
