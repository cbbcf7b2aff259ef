"""Downloads go on where they were interrupted, are checked, and say which file to put where without a network."""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.base.lease import Lease
from kd.corpora import download
from kd.corpora.download import CHUNK_BYTES, fetch, place_of
from tests.corpora.server import Server, serve

CONTENT = random.Random(1).randbytes(300_000)
SHA256 = {"sha256": hashlib.sha256(CONTENT).hexdigest()}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server with one file, and no pauses between attempts."""
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # masked URLs leave their secrets there
    with serve() as running:
        running.files["/data/v1/en-de.zip"] = CONTENT
        yield running


def url(server: Server) -> str:
    return server.url + "/data/v1/en-de.zip"


def began(server: Server) -> list[int]:
    """At which byte each request wanted to begin."""
    return [int(asked.strip("bytes=-") or 0) for _, asked in server.asked]


def test_a_file_is_fetched_once(tmp_path: Path, server: Server) -> None:
    told: list[tuple[object, ...]] = []
    path = fetch(url(server), tmp_path, SHA256, say=lambda *what: told.append(what))
    assert path.read_bytes() == CONTENT
    assert path == tmp_path / server.url.removeprefix("http://").replace(":", "_") / "data" / "v1" / "en-de.zip"
    assert [each.name for each in path.parent.iterdir()] == ["en-de.zip"]
    assert told[-1] == ("fetching en-de.zip", 300_000, 300_000, "bytes")
    assert fetch(url(server), tmp_path, SHA256) == path
    assert len(server.asked) == 1


def test_an_interrupted_download_goes_on_within_one_call(tmp_path: Path, server: Server) -> None:
    server.breaks = [100_000, 50_000]
    assert fetch(url(server), tmp_path, SHA256).read_bytes() == CONTENT
    first, second = began(server)[1:]
    assert 0 <= 100_000 - first < CHUNK_BYTES
    assert 0 <= first + 50_000 - second < CHUNK_BYTES


def test_and_in_the_next_run(tmp_path: Path, server: Server) -> None:
    server.breaks = [100_000, 0, 0, 0]
    with pytest.raises(TransientError, match=r"interrupted after 98,304 bytes.*`kd run` continues from there"):
        fetch(url(server), tmp_path, SHA256)
    server.asked.clear()
    assert fetch(url(server), tmp_path, SHA256).read_bytes() == CONTENT
    assert began(server) == [98_304]  # six pieces of 16 KiB


def test_two_versions_of_a_file_are_never_mixed(tmp_path: Path, server: Server) -> None:
    server.breaks = [100_000, 0, 0, 0]
    with pytest.raises(TransientError):
        fetch(url(server), tmp_path)
    server.files["/data/v1/en-de.zip"] = other = CONTENT[::-1]
    assert fetch(url(server), tmp_path).read_bytes() == other


def test_a_server_without_ranges_sends_all_again(tmp_path: Path, server: Server) -> None:
    server.ranges = False
    server.breaks = [100_000]
    assert fetch(url(server), tmp_path, SHA256).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=f"another sha256, {SHA256['sha256']} instead of 0000"):
        fetch(url(server), tmp_path, {"sha256": "0" * 64})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(UserError, match="another md5"):
        fetch(url(server), tmp_path, {"md5": "0" * 32})


def test_not_found_says_where_the_file_is_looked_for(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match="the server answers 404 Not Found") as caught:
        fetch(server.url + "/gone/en-de.zip", tmp_path)
    assert re.search(rf"put it there as {tmp_path}/127\.0\.0\.1_\d+/gone/en-de\.zip\.$", caught.value.hint)
    assert len(server.asked) == 1  # asking again would not help


def test_a_passing_fault_of_the_server_is_waited_for(tmp_path: Path, server: Server) -> None:
    server.statuses = [503, 429]
    assert fetch(url(server), tmp_path).read_bytes() == CONTENT


def test_what_another_fetches_is_waited_for(tmp_path: Path, server: Server) -> None:
    place = place_of(url(server), tmp_path)
    place.parent.mkdir(parents=True)
    other = Lease.acquire(place.with_name(place.name + ".lease"))
    told = []

    def say(what: str, *_: object) -> None:
        told.append(what)
        if len(told) == 3:
            place.write_bytes(b"what the other has fetched")
            other.release()

    assert fetch(url(server), tmp_path, say=say).read_bytes() == b"what the other has fetched"
    assert told == ["waiting for another process that is fetching en-de.zip"] * 3
    assert server.asked == []


def test_without_a_network_a_file_put_there_by_hand_is_taken(tmp_path: Path, server: Server) -> None:
    nowhere = "http://127.0.0.1:9/data/en-de.zip"  # the port of "discard", where nobody listens
    with pytest.raises(UserError, match=r"cannot be reached: .*refused") as caught:
        fetch(nowhere, tmp_path)
    by_hand = Path(caught.value.hint.split(" there as ")[1].rstrip("."))
    by_hand.write_bytes(CONTENT)
    assert fetch(nowhere, tmp_path, SHA256) == by_hand
    with pytest.raises(UserError, match="another sha256"):
        fetch(nowhere, tmp_path, {"sha256": "1" * 64})


@pytest.mark.parametrize(
    ("address", "name", "place"),
    [
        ("https://h.org/a/b.tgz", "", "h.org/a/b.tgz"),
        ("https://h.org/download/123/", "c.zip", "h.org/download/123/c.zip"),
        ("https://h.org/../../etc/passwd", "", "h.org/etc/passwd"),
        ("https://h.org/%2e%2e/x", "", "h.org/x"),
        ("https://../x", "", "host/x"),
        ("https://me:secret@h.org/x", "", "h.org/x"),
        ("https://h.org", "", "h.org/index"),
    ],
)
def test_a_url_has_a_readable_place_below_the_cache(address: str, name: str, place: str) -> None:
    assert place_of(address, "/cache", name) == Path("/cache", place)


def test_a_query_makes_another_place() -> None:
    first, second = (place_of(f"https://h.org/get.tsv.gz?f={name}", "/cache") for name in "ab")
    assert first != second
    assert first.name.endswith("-get.tsv.gz")


def test_a_cache_that_is_no_folder_is_one_sentence(tmp_path: Path, server: Server) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(url(server), tmp_path / "cache")


def test_credentials_of_a_url_reach_the_server_and_no_message(tmp_path: Path, server: Server) -> None:
    server.login = "alice:hunter2"
    place = fetch(url(server).replace("://", "://alice:hunter2@"), tmp_path)
    assert place.read_bytes() == CONTENT
    assert "alice" not in str(place)
    with pytest.raises(UserError) as caught:
        fetch(url(server).replace("://", "://alice:wr0ng@").replace("v1", "v2"), tmp_path)
    assert "401" in str(caught.value)
    assert "asks for credentials. Put user name and password into ~/.netrc, or set KD_CREDENTIALS_127_0_0_1=" in str(
        caught.value
    )
    assert "wr0ng" not in str(caught.value)


def test_credentials_come_from_netrc_and_the_environment(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.login = "alice:hunter2"
    monkeypatch.setenv("KD_CREDENTIALS_127_0_0_1", "alice:hunter2")
    assert fetch(url(server), tmp_path / "a").read_bytes() == CONTENT
    monkeypatch.delenv("KD_CREDENTIALS_127_0_0_1")
    with pytest.raises(UserError, match="asks for credentials"):
        fetch(url(server), tmp_path / "b")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert fetch(url(server), tmp_path / "b").read_bytes() == CONTENT


def test_another_token_is_the_same_file(tmp_path: Path, server: Server) -> None:
    server.parameters = "token=T1"
    first = fetch(url(server) + "?token=T1", tmp_path)
    server.parameters = "token=T2"
    asked = len(server.asked)
    assert fetch(url(server) + "?token=T2", tmp_path) == first
    assert len(server.asked) == asked


def test_a_masked_token_that_is_not_known_is_asked_for(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.parameters = "token=T3"
    with pytest.raises(
        UserError, match=r"secret parameter token of .* is not set on this computer\. .*KD_QUERY_127_0_0_1"
    ):
        fetch(url(server) + "?token=***&", tmp_path)
    monkeypatch.setenv("KD_QUERY_127_0_0_1", "token=T3")
    assert fetch(url(server) + "?token=***", tmp_path).read_bytes() == CONTENT


def test_a_servers_reply_cannot_control_a_terminal(tmp_path: Path, server: Server) -> None:
    server.login, server.reason = "alice:hunter2", "go \x1b[31maway\x9b"
    with pytest.raises(UserError) as caught:
        fetch(url(server), tmp_path)
    assert "go \u241b[31maway" in str(caught.value)
    assert not set("\x1b\x9b") & set(str(caught.value))
