"""What a process of `ordered_map` does in a test: it says that it is there, and waits."""

from __future__ import annotations

import os
import time
from pathlib import Path


def sleep(folder: str) -> None:
    """Leave a file named by this process' id."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)
