"""A failure of a disk is reported in one sentence, with an exit status that says whether a retry may succeed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError, exit_of
from kd.base.faults import disk_fault

STORE = Path("/data/store")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN])
def test_a_fault_of_a_network_file_system_may_pass(number: int) -> None:
    fault = disk_fault(OSError(number, "x", "/data/store/a/lines"), STORE)
    assert isinstance(fault, TransientError) and exit_of(fault) == 75
    assert str(fault).startswith("Reading or writing /data/store/a/lines failed: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_a_full_or_read_only_disk_is_for_the_user(number: int) -> None:
    fault = disk_fault(OSError(number, "x"), STORE)
    assert isinstance(fault, UserError) and exit_of(fault) == 2
    assert fault.problem.startswith("Writing to /data/store failed: ") and fault.hint


def test_a_folder_for_temporary_files_is_named_itself() -> None:
    fault = disk_fault(OSError(errno.ENOSPC, "x", "/tmp/kd-export-1/model"), STORE)
    assert str(fault).startswith("/tmp/kd-export-1/model: No space left on device.")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "x"), OSError("no number"), ValueError("x")])
def test_any_other_error_stays_a_bug(error: Exception) -> None:
    assert disk_fault(error, STORE) is None
