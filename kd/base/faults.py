"""Turn failures of disks and file systems into one sentence for the user, with the right exit status."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kd.base.errors import TransientError, UserError

# errno -> what the user can do about it (exit status 2)
LASTING = {
    errno.ENOSPC: "Free some space, or set store.dir to a folder on another disk; finished work is kept.",
    errno.EDQUOT: "Free some of your quota, or set store.dir to a folder elsewhere; finished work is kept.",
    errno.EROFS: "Set store.dir to a folder that can be written to.",
    errno.EACCES: "Set store.dir to a folder that you may write to.",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f).",
}
# What Lustre and NFS report while a server restarts or a connection is lost: a retry may succeed (exit status 75).
PASSING = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.EREMOTEIO, errno.EHOSTDOWN)


def disk_fault(error: BaseException, folder: Path) -> UserError | TransientError | None:
    """Return the error to report for a failure of a disk or file system; None for any other error.

    Args:
        error: The error to explain.
        folder: The folder that was being read or written, used in the message if `error` names no file.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return None
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    reason = os.strerror(error.errno)
    if error.errno in PASSING:
        return TransientError(f"Reading or writing {named} failed: {reason}. Type the same command again.")
    if error.errno not in LASTING:
        return None
    if folder != named and folder not in named.parents:  # a folder for temporary files, for instance
        return UserError(f"{named}: {reason}.", "Free some space there, or grant write permission.")
    return UserError(f"Writing to {folder} failed: {reason}.", LASTING[error.errno])
