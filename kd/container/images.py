"""Find images and their records: IMAGE.json states what an image was made from and which versions it contains.

`kd status` reads the versions from the record, so it need not start the image.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import write_text
from kd.container import definitions


@dataclass(frozen=True)
class Record:
    """The record of an image."""

    definition: str  # its name: cpu, cuda …
    definition_sha256: str
    lock: str  # name of the file
    lock_sha256: str
    base: str
    versions: dict[str, str]  # package -> version, as found inside
    kd: str
    revision: str  # of the checkout it was built from; -dirty: with uncommitted changes
    sha256: str  # of the image
    bytes: int
    runtime: str  # name and version of the program that built it
    command: list[str]
    created: str
    seconds: float


def record_path(image: Path) -> Path:
    """Return the path of an image's record."""
    return image.with_name(image.name + ".json")


def write_record(image: Path, record: Record) -> None:
    """Write the record beside an image."""
    write_text(record_path(image), json.dumps(asdict(record), indent=2) + "\n")


def read_record(image: Path) -> Record | None:
    """Read the record beside an image; return None if it is missing or damaged."""
    try:
        known: dict[str, Any] = json.loads(record_path(image).read_text("utf-8"))
        return Record(**known)
    except (OSError, ValueError, TypeError):
        return None


def default_image(name: str) -> Path:
    """Return the path of the image that `kd container build NAME` makes, in the current folder."""
    return Path.cwd() / f"kd-{name.removeprefix('kd-')}.sif"


def find(name: str) -> Path:
    """Return an image by the name of its definition or by its path; raise UserError if it does not exist."""
    given = Path(name)
    if given.exists() and (given.suffix == ".sif" or given.is_dir() or "/" in name):
        return given.absolute()
    if given.suffix == ".sif" or "/" in name:
        raise UserError(f"There is no image at {given}.", "Build one by `kd container build`.")
    definitions.find(name)
    image = default_image(name)
    if not image.exists():
        raise UserError(f"There is no image {image}.", f"Build it by `kd container build {name}`, or give its path.")
    return image
