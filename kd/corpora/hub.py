"""Fetch data sets of the Hugging Face hub: `hf://datasets/ORG/NAME@COMMIT/path/*.parquet`.

The revision is a commit, so that a recipe always means the same text. The listing of a commit is stored beside the
files, so the hub is not contacted again once all files are present.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import TransientError, UserError
from kd.base.files import DamagedFile, read_object, write_json
from kd.corpora.lines import PathLike
from kd.corpora.places import Key, Place, expression

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://datasets/(?P<name>[\w.-]+(?:/[\w.-]+)?)@(?P<commit>[0-9a-f]{40})/(?P<path>.+)")
_FORM = "Write hf://datasets/ORG/NAME@COMMIT/PATH; the data set's page lists its commits of 40 hexadecimal digits."


def is_hub(text: str) -> bool:
    """Return whether a path is an address of the hub."""
    return text.startswith(PREFIX)


def check_address(text: str) -> None:
    """Raise UserError for an address without a data set, a commit or a path."""
    if not _ADDRESS.fullmatch(text):
        raise UserError(f"{text} does not name a data set's files at a commit.", _FORM)


@dataclass(frozen=True)
class Listing:
    """The files and the licence of a data set at one commit."""

    files: list[str]
    licence: str  # of the card; none where the card states none


def fetch_hub(address: str, cache: PathLike) -> dict[Key, Place]:
    """Return the files of an address, keyed by the text that its wildcards matched; download those not in the cache.

    Raises:
        UserError: The data set, the commit or a file does not exist or needs a login, or the hub cannot be reached.
        TransientError: The hub answers with an error of its own.
    """
    from huggingface_hub import hf_hub_download

    match = _match(address)
    name, commit = match["name"], match["commit"]
    pattern = expression(match["path"])
    found = {hit.groups(): file for file in listing(address, cache).files if (hit := pattern.fullmatch(file))}
    if not found:
        raise UserError(f"No file of the data set {name} matches {match['path']}.", f"The commit is {commit}.")
    places: dict[Key, Place] = {}
    for key, file in sorted(found.items()):
        download: dict[str, Any] = {"repo_type": "dataset", "revision": commit, "cache_dir": _folder(cache)}
        places[key] = Path(_asked(name, commit, hf_hub_download, name, file, endpoint=_endpoint(), **download))
    return places


def listing(address: str, cache: PathLike) -> Listing:
    """Return the content of an address's commit; raises the errors of `fetch_hub`."""
    from huggingface_hub import HfApi

    match = _match(address)
    name, commit = match["name"], match["commit"]
    stored = _folder(cache) / f"{name.replace('/', '--')}@{commit}.json"
    if not stored.is_file():
        api = HfApi(endpoint=_endpoint())
        info = _asked(name, commit, api.dataset_info, name, revision=commit)
        licence = (info.card_data or {}).get("license", "")
        content = {
            "files": sorted(file.rfilename for file in info.siblings or []),
            "licence": ", ".join(licence) if isinstance(licence, list) else str(licence or ""),
        }
        write_json(stored, content)
    return _read(stored)


def _read(stored: Path) -> Listing:
    hint = f"Remove {stored}: the hub is asked again."
    content = read_object(stored, hint)
    files, licence = content.get("files"), content.get("licence")
    if not isinstance(licence, str) or not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise DamagedFile(f"{stored} is damaged: it does not list the files of a data set.", hint)
    return Listing(files, licence)


def _match(address: str) -> re.Match[str]:
    check_address(address)
    match = _ADDRESS.fullmatch(address)
    assert match is not None
    return match


def _folder(cache: PathLike) -> Path:
    return Path(cache, "hub")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _asked(name: str, commit: str, ask: Any, *arguments: Any, **options: Any) -> Any:
    """Query the hub; turn its errors into UserError and TransientError."""
    import requests
    from huggingface_hub import errors

    where = f"the data set {name} at the commit {commit}"
    login = "Check the name; for a data set that needs a login, accept its terms and set HF_TOKEN."
    try:
        return ask(*arguments, **options)
    except (errors.GatedRepoError, errors.RepositoryNotFoundError):
        raise UserError(
            f"The hub does not give access to {where}: it needs a login or does not exist.", login
        ) from None
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if not isinstance(error, errors.LocalEntryNotFoundError):
            raise UserError(f"The hub does not have {where}.", _FORM) from None
        raise _unreachable(where) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise UserError(f"The hub refuses {where}: {status}.", login) from None
        raise TransientError(f"The hub does not answer for {where}: {status}.") from None
    except (requests.RequestException, errors.OfflineModeIsEnabled, OSError):
        raise _unreachable(where) from None


def _unreachable(where: str) -> UserError:
    return UserError(
        f"The hub cannot be reached for {where}.",
        "Run `kd run … upto=collect` on a computer with a network, then continue here.",
    )
