"""Copy the inputs of a training to a fast local disk, since every epoch reads them."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.base.text import size
from kd.pipeline.store import folder_bytes

_LOG = logging.getLogger(__name__)
SHARE = 0.9  # of the free bytes that copies may fill


@contextlib.contextmanager
def staged(folders: Iterable[Path], scratch: str | None) -> Iterator[Mapping[Path, Path]]:
    """Yield folder -> its copy on the local disk; copies are removed at the end.

    Folders that do not fit are read in place.

    Args:
        folders: Folders to copy.
        scratch: `machine.scratch`, which may name variables of the job; None: copy nothing.

    Raises:
        UserError: `scratch` names a variable that is not set.
    """
    with contextlib.ExitStack() as stack:
        yield _copies(list(dict.fromkeys(folders)), scratch, stack) if scratch else {}


def _copies(folders: list[Path], scratch: str, stack: contextlib.ExitStack) -> dict[Path, Path]:
    place = Path(os.path.expandvars(scratch))
    if "$" in str(place):
        raise UserError(
            f"machine.scratch is {scratch}, but one of its variables is not set in this job.",
            "Set machine.scratch to a folder, or to a variable that the site sets in jobs, or to null.",
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        wanted, free = sum(map(folder_bytes, folders)), shutil.disk_usage(place).free
        if wanted > SHARE * free:
            _LOG.info(
                "The inputs (%s) do not fit into %s (%s free) and are read in place.", size(wanted), place, size(free)
            )
            return {}
        inside = stack.enter_context(scratch_folder("kd-inputs-", place))
        copies = {folder: inside / str(number) / folder.name for number, folder in enumerate(folders)}
        for folder, copy in copies.items():
            shutil.copytree(folder, copy)
    except OSError as error:
        _LOG.info("The inputs cannot be copied to %s (%s) and are read in place.", place, error.strerror or error)
        return {}
    _LOG.info("Copied the inputs (%s) to %s.", size(wanted), place)
    return copies
