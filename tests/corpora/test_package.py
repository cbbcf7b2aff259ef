"""A wheel is fetched by pip from where the user's settings point, checked, cached, and never fetched twice."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.corpora import package
from kd.corpora.package import fetch_package

WHEEL = "Some_Package-1.2-py3-none-any.whl"


@pytest.fixture
def sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A wheel for a far newer Python in a local folder that is all that pip may look at; returns its hash."""
    offered = tmp_path / "offered"
    offered.mkdir()
    metadata = (
        "Metadata-Version: 2.1\nName: Some-Package\nVersion: 1.2\nRequires-Python: >=3.99\nRequires-Dist: no-such\n"
    )
    with zipfile.ZipFile(offered / WHEEL, "w") as wheel:
        wheel.writestr("Some_Package-1.2.dist-info/METADATA", metadata)
        wheel.writestr(
            "Some_Package-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("Some_Package-1.2.dist-info/RECORD", "")
        wheel.writestr("some_package/en.json", "{}")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return hashlib.sha256((offered / WHEEL).read_bytes()).hexdigest()


def test_a_wheel_is_fetched_once(tmp_path: Path, sha256: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    path = fetch_package("some.package", "1.2", sha256, cache)
    assert path == cache / WHEEL
    assert [each.name for each in cache.iterdir()] == [WHEEL]
    monkeypatch.setattr(package.subprocess, "run", None)  # a second download would fail
    assert fetch_package("Some-Package", "1.2", sha256.upper(), cache) == path


def test_a_file_put_there_by_hand_is_taken_and_a_wrong_one_is_not(tmp_path: Path, sha256: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / WHEEL).write_bytes(b"half of it")
    path = fetch_package("some-package", "1.2", sha256, cache)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_a_wheel_with_another_hash_is_refused_and_not_kept(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(UserError, match=f"{WHEEL} that pip downloaded has another SHA-256, {sha256}") as caught:
        fetch_package("some-package", "1.2", "0" * 64, tmp_path / "cache")
    assert "0" * 64 in caught.value.hint
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_cannot_be_had_says_which_file_to_put_where(tmp_path: Path, sha256: str) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match=r"pip could not download some-package 9\.9 \(ERROR: No matching") as caught:
        fetch_package("some-package", "9.9", sha256, cache)
    assert f"Put some_package-9.9-….whl with the SHA-256 {sha256} into {cache}" in caught.value.hint
    assert [each.name for each in cache.iterdir()] == ["some_package-9.9.pip.log"]
    assert "No matching distribution" in (cache / "some_package-9.9.pip.log").read_text()


def test_a_cache_that_is_no_folder_is_one_sentence(tmp_path: Path, sha256: str) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        fetch_package("some-package", "1.2", sha256, tmp_path / "cache")
