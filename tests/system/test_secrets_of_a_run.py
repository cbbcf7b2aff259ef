"""Secrets of a URL are in no file that a run leaves: artifacts, configs, logs and cache; nor in what it prints."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from corpora.server import Server, serve
from runs_of_tiny import new_workplace

pytestmark = pytest.mark.system

USER, PASSWORD, TOKEN = "alice-of-acme", "hunter2-is-weak", "T0PSECRET-4711"
SECRETS = (USER, PASSWORD, TOKEN)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that needs user, password and token."""
    with serve() as offered:
        offered.login, offered.parameters = f"{USER}:{PASSWORD}", f"token={TOKEN}"
        yield offered


def overrides(server: Server) -> list[str]:
    address = server.url.replace("://", f"://{USER}:{PASSWORD}@")
    sides = {"source": "corpus.{source}", "target": "corpus.{target}.gz"}
    return [f'corpus.sources.made_up.{side}="{address}/{file}?token={TOKEN}"' for side, file in sides.items()]


def contents(path: Path) -> bytes:
    """Return the bytes of a file, unpacked."""
    packed = path.read_bytes()
    if packed.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
    if packed.startswith(b"\x1f\x8b"):
        return gzip.decompress(packed)
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.decompress(packed)
    if packed.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            return b"\n".join(name.encode() + archive.read(name) for name in archive.namelist())
    return packed


def leaks(*folders: Path) -> list[str]:
    """Return the files below these folders with a secret in their text or their path."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            text = str(path).encode() + (contents(path) if path.is_file() else b"")
            found += [f"{path.relative_to(folder)}: {secret}" for secret in SECRETS if secret.encode() in text]
    return found


def test_a_run_from_a_url_with_credentials_leaves_no_secret(server: Server, tmp_path: Path) -> None:
    work = new_workplace(tmp_path)
    server.files = {f"/{path.name}": path.read_bytes() for path in (tmp_path / "corpus").iterdir()}
    done = work.kd("run", *overrides(server), f"corpus.cache={tmp_path}/cache", "upto=shard", check=False)
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr], done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    assert {path.parents[2].name for path in work.store.glob("*/*/*/manifest.json")} == {
        "collect.en-xx", "clean.en-xx", "split", "shard.en-xx",
    }  # fmt: skip
    assert list(work.run.glob("logs/*/*.log")) and any((tmp_path / "cache").rglob("*-corpus.en"))
    assert not leaks(work.run, work.store, tmp_path / "cache")
