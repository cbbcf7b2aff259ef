"""A cache of segments' scores on disk, by content, so that a neural metric scores no segment twice.

The cache is one SQLite file. If it cannot be used (a read-only folder, a damaged file), scores are computed again, and
`problem` states the cause.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FILE = "comet.sqlite"
WAIT_SECONDS = 60.0  # for another process that is writing
KEYS_A_QUERY = 500  # SQLite's oldest limit on variables is 999

_TABLES = """
CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, sha256 TEXT) WITHOUT ROWID;
"""


class ScoreCache:
    """A mapping from keys (hashes of everything that a score depends on) to scores, shared by processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.problem = ""  # why the file is no longer used

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are cached."""

        def read(database: sqlite3.Connection) -> dict[bytes, float]:
            known: dict[bytes, float] = {}
            for begin in range(0, len(keys), KEYS_A_QUERY):
                some = keys[begin : begin + KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                known.update(database.execute(f"SELECT key, score FROM scores WHERE key IN ({marks})", some))
            return known

        return self._with(read) or {}

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Store scores."""
        self._with(lambda database: database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items()))

    def file_hash(self, path: Path) -> str | None:
        """Return the stored hash of a file, unless its size or modification time has changed since."""
        query = "SELECT sha256 FROM files WHERE path = ? AND size = ? AND mtime = ?"
        found = self._with(lambda database: database.execute(query, _stamp(path)).fetchone())
        return found[0] if found else None

    def remember_file(self, path: Path, sha256: str) -> None:
        """Store the hash of a file."""
        row = (*_stamp(path), sha256)
        self._with(lambda database: database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row))

    def _with(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Run an action in a transaction; return None, without an exception, if the database cannot be used."""
        if self.problem:
            return None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as database:
                database.executescript(_TABLES)
                with database:
                    return action(database)
        except (sqlite3.Error, OSError) as error:
            self.problem = str(error)
            return None


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return os.fspath(path.absolute()), status.st_size, status.st_mtime_ns
