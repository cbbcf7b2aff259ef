"""Record the reason why the last attempt at a task failed, beside its output, for launchers and `kd status`."""

from __future__ import annotations

import contextlib
import traceback
from datetime import UTC, datetime
from typing import Any

from kd.base.errors import IncompleteArtifact, TransientError, UserError
from kd.base.files import DamagedFile, read_object, write_json
from kd.base.urls import mask_output
from kd.pipeline.store import ArtifactPaths


def record_failure(paths: ArtifactPaths, error: BaseException) -> None:
    """Write the record of a failed attempt; an interruption is not a failure, since the work will be resumed."""
    if isinstance(error, TransientError | KeyboardInterrupt):
        return
    record = {
        "message": mask_output(str(error)) or type(error).__name__,
        "kind": type(error).__name__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not isinstance(error, UserError | IncompleteArtifact):
        record["traceback"] = mask_output("".join(traceback.format_exception(error)))
    with contextlib.suppress(OSError):  # on a full disk, the message on standard error has to do
        write_json(paths.failure, record)


def failed_since(paths: ArtifactPaths, started: float) -> bool:
    """Return whether an attempt has failed permanently since `started`, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(str(_read(paths).get("time"))).timestamp() >= started
    except ValueError:
        return False


def failure_message(paths: ArtifactPaths) -> str | None:
    """Return the message of the last attempt's failure; None if it did not fail or was started again."""
    message = _read(paths).get("message")
    return None if message is None else str(message)


def _read(paths: ArtifactPaths) -> dict[str, Any]:
    try:
        return read_object(paths.failure)
    except (OSError, DamagedFile):
        return {}
