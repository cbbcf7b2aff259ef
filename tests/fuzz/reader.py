"""What a reader is to the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: Names the reader in messages.
        content: Makes the whole input.
        check: Reads a folder in which the mutated input lies as `input`. Raises AssertionError for a wrong result.
    """

    name: str
    content: Callable[[], bytes]
    check: Callable[[Path], None]
