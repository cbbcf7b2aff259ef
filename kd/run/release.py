"""Implement `kd release`: upload a released folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.pipeline.run import Run
from kd.pipeline.store import MANIFEST, Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.stages.outputs import CARD


def release(request: Request, push: str | None, folder: str | None) -> int:
    """List the released folders of a run, or upload one of them; return the exit status.

    Args:
        request: The recipe and its settings.
        push: The repository, `ORGANISATION/NAME`; None to list the folders.
        folder: The name of the released folder; not needed if there is only one.

    Raises:
        UserError: Nothing is released, the choice is ambiguous, or the hub cannot be used.
    """
    found = _released(request)
    if push is None:
        for name, (_, shown) in found.items():
            print(f"{name}\t{shown}")
        return 0
    if folder is None and len(found) > 1:
        raise UserError(f"The run has {len(found)} released folders.", f"Add one of: {_options(found)}.")
    name = folder or next(iter(found))
    if name not in found:
        raise unknown_name("released folder", name, found)
    path, shown = found[name]
    url = _upload(path, shown, push)
    print(f"Uploaded {shown} to {url}.")
    return 0


def _options(found: dict[str, tuple[Path, Path]]) -> str:
    return ", ".join(f"folder={name}" for name in found)


def _released(request: Request) -> dict[str, tuple[Path, Path]]:
    """Return the released folders' paths in the run by name: `NAME`, or `en-de/NAME` if there are several pairs."""
    config = compose.compose(request)
    store, run = Store(Path(config.store.dir)), Run(Path(config.run.dir))
    tasks = [task for task in compose.plan(config).tasks() if (store.paths(task).final / CARD).is_file()]
    if not tasks:
        raise UserError(
            f"{config.recipe} has no released folder in {run.folder}.", f"Type: kd run recipe={request.recipe}"
        )
    several = len({task.stage.name for task in tasks}) > 1
    return {
        f"{task.stage.axis}/{task.name}" if several else task.name: (store.paths(task).final, run.link_path(task))
        for task in tasks
    }


def _upload(path: Path, shown: Path, repository: str) -> str:
    """Upload a folder; return the address of the repository."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
        from requests.exceptions import RequestException
    except ModuleNotFoundError:
        raise UserError(
            "Uploading needs the package huggingface_hub, which is not installed.",
            "Type: pip install huggingface_hub",
        ) from None
    by_hand = f"Upload it from a machine with a network: hf upload {repository} {shown} ."
    try:
        hub = HfApi()
        address = hub.create_repo(repository, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=path.resolve(), ignore_patterns=[MANIFEST])
    except HFValidationError as error:
        raise UserError(
            f"{repository} is not the name of a repository: {error}", "Set push=ORGANISATION/NAME."
        ) from None
    except LocalTokenNotFoundError:
        raise UserError("There is no token for the hub.", "Type: hf auth login") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            raise UserError(f"You have no write access to {repository}.", "Type: hf auth login") from None
        raise UserError(f"The hub rejected the upload to {repository}: {_line(error)}.", by_hand) from None
    except (RequestException, OSError) as error:
        raise UserError(f"The hub cannot be reached: {_line(error)}.", by_hand) from None
    return str(address)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
