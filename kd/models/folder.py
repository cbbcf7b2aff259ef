"""`ModelFolder`: the files of a model on disk, for any engine.

A folder has one of five forms; `files.py` defines the names of the files:

- trained: `model.pt` (a fairseq checkpoint), `dict.txt`, `vocabulary.model` or `bpe.codes` with `segmentation.json`;
- exported: `model/` (CTranslate2's files), `vocabulary.model`, `model.json`;
- converted from Hugging Face: `model/`, `tokenizer/` (transformers' files), `model.json`;
- a teacher behind a server: `model.json` alone;
- an ensemble for distribution: `members/1/`, `members/2/` … (trained folders), `model.json`.

A model that was trained elsewhere may have its files in different places: `ModelFolder.of_files`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import link_file, write_json
from kd.base.hashing import sha256
from kd.models.description import (
    CTRANSLATE2,
    ENDPOINT,
    FAIRSEQ,
    PACKAGED,
    Languages,
    Original,
    describe,
    read_description,
    read_languages,
)
from kd.models.files import (
    CODES,
    DESCRIPTION,
    DICTIONARY,
    EXPORTED,
    EXPORTED_WEIGHTS,
    LANGUAGES,
    MEMBERS,
    SEGMENTATION,
    SOURCE_DICTIONARY,
    TARGET_DICTIONARY,
    TOKENIZER,
    VOCABULARY,
    WEIGHTS,
)
from kd.models.integrity import COPY_AGAIN, check_file
from kd.models.matching import check_exported, check_pieces, read_dictionary
from kd.models.moses_bpe import Segmentation, check_codes, read_segmentation

CONFIGURATION = "config.json"  # of CTranslate2
SHARED_VOCABULARY, SIDE_VOCABULARIES = "shared_vocabulary", ("source_vocabulary", "target_vocabulary")


@dataclass(frozen=True)
class ModelFolder:
    """The files of one model, or of the members of an ensemble.

    Attributes:
        path: The folder.
        engine: FAIRSEQ, CTRANSLATE2 or ENDPOINT.
        weights: `model.pt`, or CTranslate2's `model.bin`; `model.json` of a model behind a server.
        vocabulary: The sentencepiece model of both sides, or BPE codes.
        dictionary: fairseq's dictionary of the target; None in an exported folder.
        source_dictionary: fairseq's dictionary of the source; equal to `dictionary` if both sides share it.
        languages_file: The language pairs of a multilingual model.
        segmentation: The preparation of text for BPE codes; None with a sentencepiece model.
        tokenizer: The folder of transformers' tokenizer, if the model has one; `vocabulary` is its configuration.
        members: The folders of an ensemble; for a single model its own folder.
    """

    path: Path
    engine: str
    weights: Path
    vocabulary: Path
    dictionary: Path | None = None
    source_dictionary: Path | None = None
    languages_file: Path | None = None
    segmentation: Segmentation | None = None
    tokenizer: Path | None = None
    members: Sequence[ModelFolder] = field(default=(), repr=False)

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Find the files of a folder, and check that all files of its form are present and not empty.

        Raises:
            UserError: The folder or a file is missing, or a file is a Git LFS pointer, empty, or of a newer format.
        """
        if not path.is_dir():
            raise UserError(f"There is no folder {path}.", "Give the folder of an exported or trained model.")
        found = cls._members(path) or cls._exported(path) or cls._trained(path)
        for member in found.members or (found,):
            for file in member.files:
                check_file(file)
        _ = found.languages  # reads model.json or languages.json
        return found

    @classmethod
    def of_files(
        cls,
        weights: Path,
        vocabulary: Path,
        dictionary: Path,
        source_dictionary: Path,
        segmentation: Segmentation | None = None,
    ) -> ModelFolder:
        """Return a model folder for a fairseq checkpoint whose files are in different places."""
        return cls(
            weights.parent, FAIRSEQ, weights, vocabulary, dictionary, source_dictionary, segmentation=segmentation
        )

    @classmethod
    def beside(cls, weights: Path) -> ModelFolder:
        """Return a model folder for a fairseq checkpoint whose other files, if they exist, are beside it.

        As in fairseq's data folders, the target dictionary may be named `dict.target.txt`.
        """
        folder = weights.parent
        shared = folder / DICTIONARY
        own = [folder / name for name in (SOURCE_DICTIONARY, TARGET_DICTIONARY)]
        source, target = (path if path.is_file() else shared for path in own)
        return cls(folder, FAIRSEQ, weights, folder / VOCABULARY, target, source)

    @classmethod
    def _members(cls, path: Path) -> ModelFolder | None:
        if not (path / MEMBERS).is_dir():
            return None
        count = int(read_description(path).get("members") or 0)
        folders = [path / MEMBERS / str(number) for number in range(1, count + 1)]
        missing = next((folder for folder in folders if not (folder / WEIGHTS).is_file()), None)
        if missing is not None or not folders:
            raise UserError(f"{missing or path} has no model.", "Copy the whole folder, members included.")
        members = [cls._trained(folder) for folder in folders]
        first = members[0]
        return replace(first, path=path, languages_file=None, members=members)

    @classmethod
    def _exported(cls, path: Path) -> ModelFolder | None:
        described = (path / DESCRIPTION).is_file()
        if not described and not (path / EXPORTED / EXPORTED_WEIGHTS).is_file():
            return None
        if not described:
            raise UserError(f"{path} has no {DESCRIPTION}.", COPY_AGAIN)
        description = read_description(path)
        engine = description.get("engine", CTRANSLATE2)
        if engine in PACKAGED:
            raise UserError(
                f"{path} is for {engine}, which kd does not load.",
                "See the example in its README.md, or give another export of the model.",
            )
        if engine == ENDPOINT:
            return cls(path, ENDPOINT, path / DESCRIPTION, path / DESCRIPTION)
        if engine != CTRANSLATE2:
            raise UserError(f"{path} has no folder {MEMBERS}.", "Copy the whole folder, members included.")
        if "compute_type" not in description:
            raise UserError(f"{path / DESCRIPTION} is damaged: it has no entry compute_type.", COPY_AGAIN)
        weights, tokenizer = path / EXPORTED / EXPORTED_WEIGHTS, path / TOKENIZER
        if tokenizer.is_dir() and "direction" in description:
            return cls(path, CTRANSLATE2, weights, tokenizer / "tokenizer_config.json", tokenizer=tokenizer)
        return cls(path, CTRANSLATE2, weights, path / VOCABULARY)

    @classmethod
    def _trained(cls, path: Path) -> ModelFolder:
        if not (path / WEIGHTS).is_file():
            below = _models_below(path)
            hint = f"Give one of the models below it: {', '.join(below)}" if below else (
                "Give the folder of an exported, released or trained model."
            )  # fmt: skip
            raise UserError(f"{path} has no model.", hint)
        dictionary, own, languages = path / DICTIONARY, path / SOURCE_DICTIONARY, path / LANGUAGES
        segmentation = read_segmentation(path)
        return cls(
            path,
            FAIRSEQ,
            path / WEIGHTS,
            path / (CODES if segmentation else VOCABULARY),
            dictionary,
            own if own.is_file() else dictionary,
            languages if languages.is_file() else None,
            segmentation,
        )

    # --- its content -------------------------------------------------------------------------------------------------

    @property
    def files(self) -> tuple[Path, ...]:
        """The files needed for translation, each once, in a fixed order; for an ensemble, those of the first member."""
        always = [self.weights, self.vocabulary]
        if self.tokenizer:
            return tuple(dict.fromkeys((*always, *sorted(self.tokenizer.iterdir()))))
        if self.engine == CTRANSLATE2:
            return (*always, self.path / EXPORTED / CONFIGURATION, *self._exported_vocabularies())
        beside = self.vocabulary.with_name(SEGMENTATION) if self.vocabulary == self.path / CODES else None
        optional = (self.dictionary, self.source_dictionary, self.languages_file, beside)
        return tuple(dict.fromkeys((*always, *(path for path in optional if path))))

    @property
    def all_members(self) -> Sequence[ModelFolder]:
        """The single models: the members of an ensemble, or else the folder itself."""
        return self.members or (self,)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The content of `model.json`; empty in a trained folder."""
        return read_description(self.path)

    @cached_property
    def languages(self) -> Languages:
        """The translation directions; empty if the folder does not state them."""
        return read_languages(self.path)

    @property
    def bytes(self) -> int:
        """The total size of the files needed for translation."""
        files = {path for member in self.all_members for path in member.files}
        files |= {path for path in (self.path / DESCRIPTION, self.path / LANGUAGES) if path.is_file()}
        return sum(path.stat().st_size for path in files)

    def _exported_vocabularies(self) -> list[Path]:
        """Return CTranslate2's token lists: one for both sides or one each; the suffix depends on its version."""
        folder = self.path / EXPORTED
        shared = sorted(folder.glob(f"{SHARED_VOCABULARY}.*"))
        if shared:
            return shared[:1]
        sides = [sorted(folder.glob(f"{name}.*")) for name in SIDE_VOCABULARIES]
        if not all(sides):
            raise UserError(f"{folder} has no {SHARED_VOCABULARY}.json.", COPY_AGAIN)
        return [found[0] for found in sides]

    def check(self) -> None:
        """Read the small files and compare them with one another.

        Raises:
            UserError: A file is damaged, or the vocabulary belongs to another model.
        """
        for member in self.all_members:
            if member.dictionary and member.source_dictionary:
                check = check_codes if member.segmentation else check_pieces
                check(member.vocabulary, [member.dictionary, member.source_dictionary])
        if self.engine == CTRANSLATE2 and not self.tokenizer:
            check_exported(self.vocabulary, self._exported_vocabularies(), self.description)

    def symbols(self) -> tuple[list[str], list[str]]:
        """Return the symbols of the source's and of the target's dictionary of a fairseq model."""
        assert self.dictionary and self.source_dictionary
        return read_dictionary(self.source_dictionary), read_dictionary(self.dictionary)

    # --- copies ------------------------------------------------------------------------------------------------------

    def copy(self, out: Path, *, weights: bool = True, link: bool = False) -> None:
        """Put the files of a fairseq model into `out` under their usual names.

        Args:
            out: The folder, which is made if necessary.
            weights: Whether to include the weights; False if the caller writes other weights.
            link: Whether to make hard links if the file system supports them.
        """
        assert self.dictionary and self.source_dictionary
        out.mkdir(parents=True, exist_ok=True)
        places = {self.vocabulary: CODES if self.segmentation else VOCABULARY, self.dictionary: DICTIONARY}
        if weights:
            places[self.weights] = WEIGHTS
        if self.source_dictionary.read_bytes() != self.dictionary.read_bytes():
            places[self.source_dictionary] = SOURCE_DICTIONARY
        if self.languages_file:
            places[self.languages_file] = LANGUAGES
        for file, name in places.items():
            if not file.is_file():
                raise UserError(f"There is no {file}.", "Give the folder of a trained model.")
            if link:
                link_file(file, out / name)
            else:
                shutil.copyfile(file, out / name)
        if self.segmentation:
            self.segmentation.write(out)


def _models_below(path: Path, most: int = 4) -> list[str]:
    """Return folders of models in a folder that has none itself, such as a run: releases before others."""
    found = {file.parent for name in (DESCRIPTION, WEIGHTS) for file in path.glob(f"*/*/{name}")}
    found |= {file.parent for name in (DESCRIPTION, WEIGHTS) for file in path.glob(f"*/{name}")}
    ordered = sorted(
        found, key=lambda folder: ("release" not in str(folder), not (folder / DESCRIPTION).is_file(), folder)
    )
    return [str(folder) for folder in ordered[:most]] + (["…"] if len(ordered) > most else [])


def copy_vocabulary(folder: Path, out: Path) -> None:
    """Copy the vocabulary, the dictionary and the language pairs of a data folder to the model trained on it."""
    for name in (VOCABULARY, DICTIONARY, LANGUAGES):
        if name != LANGUAGES or (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def write_ensemble(
    models: Sequence[ModelFolder], out: Path, original: Original, *, longest: Mapping[str, int | None]
) -> None:
    """Write a folder for distribution with one or several fairseq models of one vocabulary.

    CTranslate2 has no ensembles, so the folder has fairseq's own weights. Files are hard links if possible.

    Args:
        models: The members.
        out: The folder to write.
        original: The facts of the models that `model.json` states.
        longest: Longest `source` and `target` of their training, in tokens.

    Raises:
        UserError: A model lacks a file.
    """
    for number, model in enumerate(models, 1):
        model.copy(out / MEMBERS / str(number), link=True)
    content = describe(FAIRSEQ, "float32", original, longest=longest, vocabulary=models[0].vocabulary)
    write_description(out, {**content, "members": len(models)})


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `model.json`, with the hashes of the weights and vocabularies in the folder.

    `kd translate` uses the hashes to detect incomplete or damaged copies.
    """
    names = [path.relative_to(folder).as_posix() for path in sorted((folder / EXPORTED).glob("*"))]
    names += [VOCABULARY, "model.safetensors"]
    names += [f"{MEMBERS}/{number}/{name}" for number in range(1, content.get("members", 0) + 1)
              for name in (WEIGHTS, VOCABULARY, CODES, SEGMENTATION, DICTIONARY)]  # fmt: skip
    files = {name: folder / name for name in names if (folder / name).is_file()}
    entries = {name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for name, path in files.items()}
    write_json(folder / DESCRIPTION, {**content, "files": entries})
