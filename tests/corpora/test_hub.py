"""Data sets of the Hugging Face hub, from a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.corpora.formats import FORMATS, check_settings
from kd.corpora.hub import check_address, fetch_hub, listing
from kd.corpora.reading import Reading
from kd.recipe.schema import CorpusConfig, CorpusFormat, SourceConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"data/train-0.jsonl": b'{"en": "a", "de": "b"}\n', "data/train-1.jsonl": b'{"en": "c", "de": "d"}\n'}
ADDRESS = f"hf://datasets/org/name@{COMMIT}/data/train-*.jsonl"


class Hub(BaseHTTPRequestHandler):
    """Answers of the hub's API, as huggingface_hub 0.36 reads them."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        path = self.path.removeprefix(f"/datasets/org/name/resolve/{COMMIT}/")
        if self.path == f"/api/datasets/org/name/revision/{COMMIT}":
            siblings = [{"rfilename": name} for name in ("README.md", *FILES)]
            self._send(
                json.dumps({"id": "org/name", "siblings": siblings, "cardData": {"license": "cc0-1.0"}}).encode()
            )
        elif path in FILES:
            self._send(FILES[path])
        else:
            code = "RepoNotFound" if "/org/name" not in self.path else "RevisionNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    do_GET = do_HEAD

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Start the server; returns the paths that it was asked for."""
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield Hub.asked
    server.shutdown()
    server.server_close()


def test_files_of_a_commit_are_fetched_once(tmp_path: Path, asked: list[str]) -> None:
    source = SourceConfig(CorpusFormat.jsonl, source=ADDRESS, fields={"source": "{source}", "target": "{target}"})
    reading = Reading("set", source, CorpusConfig(cache=str(tmp_path)), "en", "de")
    check_settings("corpus.sources.set", source)
    assert FORMATS["jsonl"].files(reading) == []  # nothing is fetched to plan
    assert not asked
    assert list(FORMATS["jsonl"].rows(reading)) == [("a", "b"), ("c", "d")]
    assert reading.licence() == "cc0-1.0"
    asked.clear()
    assert list(FORMATS["jsonl"].rows(reading)) == [("a", "b"), ("c", "d")]
    assert not asked


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": "a", "licence": ""}', '{"files": [1], "licence": ""}'])
def test_a_damaged_listing_in_the_cache_is_one_sentence(tmp_path: Path, content: str) -> None:
    stored = tmp_path / "hub" / f"org--name@{COMMIT}.json"
    stored.parent.mkdir()
    stored.write_text(content)
    with pytest.raises(UserError, match=r"\.json is damaged: .* Remove .*: the hub is asked again"):
        listing(ADDRESS, tmp_path)


def test_the_licence_of_the_recipe_comes_before_the_card(tmp_path: Path, asked: list[str]) -> None:
    source = SourceConfig(CorpusFormat.jsonl, source=ADDRESS, licence="MIT")
    assert Reading("set", source, CorpusConfig(cache=str(tmp_path)), "en", "de").licence() == "MIT"
    assert not asked


@pytest.mark.parametrize(
    "address",
    [
        "hf://datasets/org/name/data/train.parquet",
        "hf://datasets/org/name@main/data/train.parquet",
        f"hf://org/name@{COMMIT}/data/train.parquet",
        f"hf://datasets/org/name@{COMMIT}",
    ],
)
def test_an_address_without_a_commit_or_a_path_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="does not name a data set's files at a commit"):
        check_address(address)
    with pytest.raises(UserError, match="does not name a data set's files at a commit"):
        check_settings("corpus.sources.set", SourceConfig(CorpusFormat.parquet, source=address))


def test_missing_data_sets_commits_and_files_are_named(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(UserError, match=r"No file of the data set org/name matches \*\.parquet"):
        fetch_hub(f"hf://datasets/org/name@{COMMIT}/*.parquet", tmp_path)
    with pytest.raises(UserError, match="The hub does not have the data set org/name at the commit ffff"):
        listing(f"hf://datasets/org/name@{'f' * 40}/*", tmp_path)
    with pytest.raises(UserError, match="does not give access to the data set org/other"):
        listing(f"hf://datasets/org/other@{COMMIT}/*", tmp_path)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="The hub cannot be reached for the data set org/name"):
        fetch_hub(ADDRESS, tmp_path)
