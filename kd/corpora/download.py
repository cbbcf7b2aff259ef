"""Fetch files over HTTP into a cache folder: resume interrupted downloads, check hashes, fetch nothing twice.

The downloaders of mtdata and sacreBLEU restart after an interruption and do not compare sizes, and one of them does not
check certificates. Therefore this module fetches all sources, using requests.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kd.base.errors import TransientError, UserError
from kd.base.lease import Lease, LeaseHeld
from kd.base.urls import environment_hint, lacks_secrets, mask, mask_for_children, scrub, with_secrets
from kd.corpora.lines import PathLike

CHUNK_BYTES = 1 << 14  # lost at most when a connection breaks
TIMEOUT = (20.0, 60.0)  # seconds to connect, and between two pieces of data
ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, doubled each time
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))

Say = Callable[[str, float, float | None, str], None]  # what, bytes so far, bytes in all, unit


def is_url(text: str) -> bool:
    """Return whether a path is a URL."""
    return text.startswith(("http://", "https://"))


def place_of(url: str, cache: PathLike, name: str = "") -> Path:
    """Return the path of a URL's file in the cache, HOST/PATH as with `wget --force-directories`.

    Args:
        url: The URL; its secrets are not part of the path.
        cache: The cache folder.
        name: Name of the file, if the URL does not end in it.
    """
    parts = urlsplit(mask(url))
    steps = [step for step in unquote(parts.path).split("/") if step not in ("", ".", "..")]
    if parts.query:
        steps.append(hashlib.sha256(parts.query.encode()).hexdigest()[:8] + "-" + (steps.pop() if steps else "file"))
    if name and (not steps or steps[-1] != name):
        steps.append(name)
    host = parts.netloc.lstrip(".") or "host"
    clean = [re.sub(r"[^\w.+=@,-]", "_", step)[-200:] for step in (host, *(steps or ["index"]))]
    return Path(cache, *clean)


def fetch(
    url: str,
    cache: PathLike,
    hashes: Mapping[str, str] | None = None,
    name: str = "",
    say: Say = lambda *_: None,
) -> Path:
    """Return the path of a URL's file in the cache; download it if it is missing.

    Secrets of the URL are masked in every message (kd/base/urls.py), and are not part of the path in the cache.

    An interrupted download resumes if the server still has the same file.

    Args:
        url: The URL.
        cache: The cache folder.
        hashes: Expected hexadecimal hashes by `sha256` or `md5`.
        name: Name of the file, if the URL does not end in it.
        say: Receives progress messages.

    Raises:
        UserError: The file cannot be fetched or has another hash; the hint says where to put it by hand.
        TransientError: The download was interrupted.
    """
    place = place_of(url, cache, name)
    hashes = {kind: value.lower() for kind, value in (hashes or {}).items()}
    url = mask_for_children(url)
    hint = f"Fetch it on a machine that reaches the network and put it there as {place.absolute()}."
    if place.is_file():
        if wrong := _wrong_hash(place, hashes):
            raise UserError(
                f"{place} has another {wrong}.",
                f"Remove it to download {url} again, or correct the hash in the recipe.",
            )
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        while not place.is_file():
            try:
                with Lease.acquire(place.with_name(place.name + ".lease")):
                    if not place.is_file():  # another may have fetched it meanwhile
                        _download(url, place, hashes, hint, say)
            except LeaseHeld:
                say(f"waiting for another process that is fetching {place.name}", 0, None, "")
                time.sleep(PAUSE)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"The cache folder {cache} cannot be written: {error.strerror}.", "Set corpus.cache to a writable folder."
        ) from None
    return place


def _wrong_hash(path: Path, hashes: Mapping[str, str]) -> str:
    """Describe the first hash that differs by its kind and values; "" if all are equal."""
    for kind, wanted in hashes.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != wanted:
            return f"{kind}, {found} instead of {wanted}"
    return ""


def _download(url: str, place: Path, hashes: Mapping[str, str], hint: str, say: Say) -> None:
    partial = _Partial(place)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            if _one_attempt(url, partial, hint, say):
                break
        except _Passing as error:
            reason = scrub(str(error), url)
    else:
        if not partial.size():
            raise UserError(f"{url} cannot be reached: {reason}.", hint)
        raise TransientError(
            f"The download of {url} was interrupted after {partial.size():,} bytes: {reason}. "
            f"`kd run` continues from there. {hint}"
        )
    if wrong := _wrong_hash(partial.path, hashes):
        partial.remove()
        raise UserError(f"{url} has another {wrong}.", f"Correct the hash in the recipe, or get the right file. {hint}")
    partial.publish()


class _Passing(Exception):
    """A temporary fault, after which the request is retried."""


class _Partial:
    """The received part of a file, and the validator by which the server recognises the same file (RFC 9110)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.path = place.with_name(place.name + ".part")
        self._mark = place.with_name(place.name + ".part.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def headers(self) -> dict[str, str]:
        """Return the headers of a request for the rest; none for a request for the whole file."""
        try:
            mark = json.loads(self._mark.read_text("utf-8"))["mark"]
        except (OSError, ValueError, KeyError):
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": mark} if self.size() and mark else {}

    def begin(self, headers: Mapping[str, str]) -> None:
        """Start again with an empty file."""
        tag = headers.get("ETag", "")
        mark = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        self._mark.write_text(json.dumps({"mark": mark}), "utf-8")
        self.path.write_bytes(b"")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def publish(self) -> None:
        self.path.replace(self.place)
        self._mark.unlink(missing_ok=True)


def _one_attempt(url: str, partial: _Partial, hint: str, say: Say) -> bool:
    """Fetch the missing part. Returns True once the file is complete, raises _Passing or UserError."""
    import requests

    if missing := lacks_secrets(url):
        raise UserError(
            f"The secret parameter {missing[0]} of {url} is not set on this computer.", environment_hint(url)
        )
    # The bytes on the server's disk: a .gz must not be decompressed in transfer.
    headers = {"Accept-Encoding": "identity", **partial.headers()}
    try:
        with requests.get(with_secrets(url), headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # nothing left to send, or another file: begin anew
                partial.remove()
                raise _Passing("the server has no such range")
            if answer.status_code in PASSING:
                raise _Passing(f"the server answers {answer.status_code} {answer.reason}")
            if answer.status_code not in (200, 206):
                told = scrub(f"{answer.status_code} {answer.reason}"[:200], url)
                wants = answer.status_code in (401, 403)
                raise UserError(
                    f"{url} cannot be downloaded: the server answers {told}.",
                    f"The server asks for credentials. {environment_hint(url)}" if wants else hint,
                )
            total = _receive(answer, partial, say)
    except requests.RequestException as error:
        raise _Passing(_innermost(error)) from None
    if total is not None and partial.size() != total:
        raise _Passing(f"{partial.size():,} of {total:,} bytes came")
    return True


def _receive(answer: Any, partial: _Partial, say: Say) -> int | None:
    """Write the answer's data; returns the size of the whole file in bytes, if the server states it."""
    if answer.status_code == 200:
        partial.begin(answer.headers)
    done = partial.size()
    length = answer.headers.get("Content-Length")
    total = done + int(length) if length is not None else None
    with partial.path.open("ab") as file:
        for data in answer.iter_content(CHUNK_BYTES):
            file.write(data)
            done += len(data)
            say(f"fetching {partial.place.name}", done, total, "bytes")
    return total


def _innermost(error: BaseException) -> str:
    """Return the message of the innermost error in a chain of wrapped errors."""
    while isinstance(inner := (error.__cause__ or error.__context__ or _argument(error)), BaseException):
        error = inner
    return str(error).rstrip(".") or type(error).__name__


def _argument(error: BaseException) -> BaseException | None:
    wrapped = getattr(error, "reason", None) or next(iter(error.args), None)
    return wrapped if isinstance(wrapped, BaseException) else None
