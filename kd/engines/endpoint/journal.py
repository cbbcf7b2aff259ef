"""Record the answers of a server as they arrive, so that no answer is paid for twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd.engines.endpoint.client import Choice, Completion


def key_of(source: str) -> str:
    """Return the key of a source: the first 64 bits of its SHA-256."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


@dataclass
class Usage:
    """The requests and tokens of some answers."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0  # requests whose tokens the server did not state
    retries: int = 0

    def add(self, completion: Completion) -> None:
        """Count a request."""
        self.requests += 1
        self.retries += completion.retries
        if completion.prompt_tokens is None or completion.completion_tokens is None:
            self.uncounted += 1
        self.prompt_tokens += completion.prompt_tokens or 0
        self.completion_tokens += completion.completion_tokens or 0


@dataclass
class Answers:
    """The answers to one source so far; `rejected`: the reason why the server does not answer it."""

    choices: list[Choice] = field(default_factory=list)
    rejected: str | None = None


class Journal:
    """The answers to the sources of a shard, in a file of JSON lines that grows with each answer.

    Args:
        path: The file; None: answers are not recorded.
        others: Files of earlier attempts in other folders, which are only read.
    """

    def __init__(self, path: Path | None = None, others: Iterable[Path] = ()) -> None:
        self.usage = Usage()
        self._answers: dict[str, Answers] = {}
        self._path = path
        self._lock = threading.Lock()
        for place in (path, *others):
            if place is not None and place.is_file() and not self._answers:
                self._read(place, place != path)

    def of(self, source: str) -> Answers:
        """Return the answers to a source."""
        with self._lock:
            return self._answers.setdefault(key_of(source), Answers())

    def add(self, source: str, completion: Completion) -> None:
        """Record the answers to a request; on return they are in the file."""
        entry = {
            "source": key_of(source),
            "choices": [[each.text, each.ending, each.score, each.tokens] for each in completion.choices],
            "usage": [completion.prompt_tokens, completion.completion_tokens, completion.retries],
        }
        self._keep(entry)

    def reject(self, source: str, why: str) -> None:
        """Record that the server does not answer a source."""
        self._keep({"source": key_of(source), "rejected": why})

    def remove(self) -> None:
        """Remove the file, once the lists made from it are complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _keep(self, entry: Mapping[str, Any]) -> None:
        with self._lock:
            self._apply(entry)
            if self._path is not None:
                # The line break in front ends a record that a killed process wrote in part.
                with self._path.open("ab") as file:
                    file.write(f"\n{json.dumps(entry, ensure_ascii=False)}\n".encode("utf-8", "surrogatepass"))

    def _read(self, place: Path, copy: bool) -> None:
        for line in place.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
                self._apply(entry)
            except (ValueError, TypeError, KeyError, RecursionError):  # empty, or cut off by the end of a process
                continue
            if copy and self._path is not None:
                with self._path.open("ab") as file:
                    file.write(line + b"\n")

    def _apply(self, entry: Mapping[str, Any]) -> None:
        answers = self._answers.setdefault(str(entry["source"]), Answers())
        if "rejected" in entry:
            answers.rejected = str(entry["rejected"])
            self.usage.requests += 1
            return
        choices = [Choice(*values) for values in entry["choices"]]
        prompt, completion, retries = entry["usage"]
        answers.choices += choices
        self.usage.add(Completion(choices, prompt, completion, retries))
