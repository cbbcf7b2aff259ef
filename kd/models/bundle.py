"""Trained models as they are in a folder that can be given away: a single one, or the members of an ensemble.

CTranslate2 has no ensembles; where quality goes before speed, fairseq's own weights are what is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.engines.fairseq.checkpoints import link
from kd.engines.fairseq.model import DICTIONARY, MODEL, SOURCE_DICTIONARY
from kd.models.description import DESCRIPTION, VOCABULARY, Languages, copy_languages, describe, read_description

ENGINE = "fairseq"
MEMBERS = "members"


def bundle(
    model_folders: Sequence[Path],
    out: Path,
    *,
    languages: Languages,
    fingerprint: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Puts the models of one vocabulary into `out`, each in a folder of its own, with what translating needs.

    Files are other names of the same bytes (hard links) where the disk allows that, so a bundle takes no room.

    Raises: UserError where a folder lacks a file.
    """
    for number, folder in enumerate(model_folders, 1):
        place = out / MEMBERS / str(number)
        place.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, DICTIONARY, VOCABULARY):
            if not (folder / name).is_file():
                raise UserError(f"There is no {folder / name}.", "Name a folder that a training left.")
            link(folder / name, place / name)
        if (folder / SOURCE_DICTIONARY).is_file():
            link(folder / SOURCE_DICTIONARY, place / SOURCE_DICTIONARY)
        copy_languages(folder, place)
    first = model_folders[0]
    content = describe(
        ENGINE,
        "float32",
        languages=languages,
        checkpoint=first / MODEL,
        vocabulary=first / VOCABULARY,
        fingerprint=fingerprint,
        run=run,
    )
    write_json(out / DESCRIPTION, {**content, "members": len(model_folders)})


def model_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders that hold one fairseq model each: of a bundle those of its members, of any other itself."""
    found: list[Path] = []
    for folder in folders:
        if (folder / MEMBERS).is_dir():
            count = int(read_description(folder).get("members") or 0)
            members = [folder / MEMBERS / str(number) for number in range(1, count + 1)]
            missing = next((member for member in members if not (member / MODEL).is_file()), None)
            if missing is not None or not members:
                raise UserError(f"{missing or folder} holds no model.", "Copy the whole folder, members included.")
            found += members
        else:
            found.append(folder)
    return found
