"""A headless Chromium that tests talk to over its DevTools protocol, by a pipe: no driver, no port, no package.

https://chromedevtools.github.io/devtools-protocol/ names the commands and events.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# As quiet as it can be; without a network its own background requests would fill the log.
CHROMIUM = [
    "chromium", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip
PATIENCE = 120.0  # seconds for an answer: test machines are busy
COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Tab:
    """A page in the browser, with the events that it has sent."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; keep the events that arrive before it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            assert ready, "The browser does not answer."
            part = os.read(self._answers, 1 << 20)
            assert part, "The browser has gone."
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, page: Path) -> None:
        """Open a page and wait until it has loaded."""
        self.send("Page.navigate", url=page.as_uri())
        self.until("document.readyState === 'complete'")

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page, to which the page's policy does not apply."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """Press and release a key where the focus is."""
        text = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def point(self, x: float, y: float) -> None:
        """Move the mouse, in pixels of the viewport."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def wheel(self, x: float, y: float, down: float, *, shift: bool = False) -> None:
        """Turn the mouse's wheel at a place."""
        modifiers = 8 if shift else 0
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down, modifiers=modifiers)

    def complaints(self) -> list[str]:
        """Return the console's messages, exceptions and violations of the page's policy."""
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in COMPLAINTS]

    def requests(self) -> list[str]:
        """Return the addresses that the page requested."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """Start a browser with one page, and end it afterwards."""
    # Chromium's sandbox refuses to run as root, as which CI runs.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    read_commands, commands = os.pipe()
    answers, write_answers = os.pipe()

    # Chromium reads commands at descriptor 3 and answers at 4.
    moved = ["bash", "-c", 'exec "$@" 3<&"$0" 4>&1', str(read_commands)]
    process = subprocess.Popen(
        [*moved, *CHROMIUM, *sandbox, f"--user-data-dir={profile}"],
        stdout=write_answers,
        stderr=subprocess.DEVNULL,
        pass_fds=(read_commands,),
    )
    os.close(read_commands)
    os.close(write_answers)
    try:
        yield Tab(commands, answers)
    finally:
        process.terminate()
        process.wait()
        os.close(commands)
        os.close(answers)
