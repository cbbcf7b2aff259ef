"""What `kd status` says of what another image made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kd.base.hashing import FileHashes
from kd.container import images
from kd.container.images import Record
from kd.container.remarks import remarks

OTHER = {"path": "/images/old.sif", "sha256": "0123456789abcdef"}


def manifest(container: dict[str, str] | None, **versions: str) -> dict[str, Any]:
    """As much of one as counts here."""
    return {"container": container, "versions": {"python": "3.11.7", **versions}}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file in the place of an image that has torch 2.13.0."""
    path = tmp_path / "kd.sif"
    path.write_bytes(b"an image")
    versions = {"python": "3.11.2", "torch": "2.13.0+cpu", "numpy": "1.26.4"}
    images.write_record(path, Record("cpu", "", "", "", "", versions, "0.1.0", "", "", 8, "", [], "", 1.0))
    return path


def test_the_same_image_and_the_same_versions_are_no_remark(image: Path, tmp_path: Path) -> None:
    remark = remarks(str(image), FileHashes(tmp_path / "hashes"))
    # What `printf 'an image' | sha256sum` prints.
    same = {"path": str(image), "sha256": "a5df3fde7b200c3fa2791144c7e05c5c2bced4c6ad863d3a4cf76c972c1712f9"}
    assert remark(manifest(same, torch="1.0")) == ""
    assert remark(manifest(OTHER, torch="2.13.0", numpy="1.26.4")) == ""
    assert remark(manifest(None, torch="2.13.0")) == ""


def test_other_versions_are_named(image: Path, tmp_path: Path) -> None:
    remark = remarks(str(image), FileHashes(tmp_path / "hashes"))
    told = "with torch 2.6.0 instead of 2.13.0 (not the versions that kd.sif has)"
    assert remark(manifest(OTHER, torch="2.6.0", numpy="1.26.4")) == f"made in old.sif (0123456789ab…) {told}"
    assert remark(manifest(None, torch="2.6.0")) == f"made outside the image {told}"


def test_without_a_record_or_without_an_image(image: Path, tmp_path: Path) -> None:
    assert "this kd has" in remarks(None, FileHashes(tmp_path / "hashes"))(manifest(OTHER, torch="0.1"))
    assert remarks(None, FileHashes(tmp_path / "hashes"))(manifest(None, torch="0.1")) == ""
    images.record_path(image).unlink()
    remark = remarks(str(image), FileHashes(tmp_path / "hashes"))
    assert "the versions in kd.sif are unknown" in remark(manifest(OTHER, torch="2.13.0"))
