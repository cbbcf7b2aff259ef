"""The systems of a run that translate: each member of a training, the members of an ensemble together, each export.

Whoever compares systems asks here what they are called and how they are loaded, so that all speak of the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.models.description import CTRANSLATE2, tag_for
from kd.models.folder import ModelFolder
from kd.models.matching import load_processor

T = TypeVar("T")


class Translates(Protocol):
    """What every loaded system does."""

    def __call__(self, sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        """The best translation of each source, in the order given; `progress` hears how many are done, of how many."""
        ...


@dataclass(frozen=True)
class Decoding:
    """How a system shall translate."""

    beam: int
    max_pieces: int  # longest output
    batch_tokens: int  # source pieces a batch, padding included
    to: str | None = None  # the language to write; models of one, or without tags, need not be told


def group(models: Iterable[tuple[str, str, str, T]], ensembles: Iterable[str]) -> dict[str, list[T]]:
    """The systems by name, of models given as (label, task, kind, model).

    Trainings are called by their label (`student`), or `teacher-1` … where there are several of a label, which is also
    called `teacher-ensemble` if it is among `ensembles`; an export by its task's name (`student-int8`).
    """
    models = list(models)
    systems: dict[str, list[T]] = {}
    by_label: dict[str, dict[str, T]] = {}
    for label, task, kind, model in models:
        if kind == "export":
            systems[task] = [model]
        else:
            members, name = by_label.setdefault(label, {}), member_name(label, task)
            if name in members:
                hint = "Give each a name of its own in the inputs of the stage, or set what it runs over."
                raise UserError(f"Two systems would be called {name}.", hint)
            members[name] = model
    trained: dict[str, list[T]] = {}
    for label, members in by_label.items():
        if len(members) == 1:
            trained[label] = list(members.values())
            continue
        trained |= {name: [member] for name, member in members.items()}
        if label in ensembles:
            trained[f"{label}-ensemble"] = list(members.values())
    return trained | systems


def member_name(label: str, task: str) -> str:
    """What one of several of a label is called: `teacher-2` for the task `member-2`."""
    return f"{label}-{task.removeprefix('member-')}"


def megabytes(folders: Sequence[Path]) -> float:
    """Return the size on disk of the weights and of the other files that translating needs, in 10^6 bytes."""
    return sum(ModelFolder.open(folder).bytes for folder in folders) / 1e6


def count_pieces(folders: Sequence[Path], texts: Sequence[str]) -> int:
    """Return the number of tokens that a system's own vocabulary makes of texts."""
    processor = load_processor(ModelFolder.open(folders[0]).vocabulary)
    return sum(map(len, processor.encode(list(texts), num_threads=1)))


def load(folders: Sequence[Path], decoding: Decoding, *, threads: int, device: str) -> Translates:
    """Load a system: one model folder, an ensemble's folder, or the folders of its members."""
    models = [ModelFolder.open(folder) for folder in folders]
    for model in models:
        model.check()
    if models[0].engine == CTRANSLATE2:
        return _load_ctranslate2(folders[0], decoding, threads, device)
    return _load_fairseq(models, decoding, threads, device)


def check_translates(folder: Path) -> None:
    """Loads a system and translates a word, into its first language where it has several. Raises IncompleteArtifact."""
    target = next(iter(ModelFolder.open(folder).languages.target), None)
    decoding = Decoding(beam=1, max_pieces=8, batch_tokens=100, to=target)
    if len(load([folder], decoding, threads=1, device="cpu")(["a"])) != 1:
        raise IncompleteArtifact(f"The model in {folder} does not translate.")


def _load_ctranslate2(folder: Path, decoding: Decoding, threads: int, device: str) -> Translates:
    from kd.engines.ctranslate2 import Translator

    translator = Translator(
        folder, threads=threads, beam=decoding.beam, max_pieces=decoding.max_pieces, device=device, to=decoding.to
    )

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        outputs = translator.translate(sources, decoding.batch_tokens)
        if progress:
            progress(len(sources), len(sources))
        return outputs

    return translate


def _load_fairseq(models: Sequence[ModelFolder], decoding: Decoding, threads: int, device: str) -> Translates:
    from kd.engines.fairseq.translate import EnsembleTranslator
    from kd.models.vocabulary import Vocabulary

    folders = [member.path for model in models for member in model.all_members]
    translator = EnsembleTranslator(
        folders,
        Vocabulary(folders[0]),
        beam=decoding.beam,
        max_pieces=decoding.max_pieces,
        batch_tokens=decoding.batch_tokens,
        threads=threads,
        device=device,
        score_members=False,
        tag=tag_for(models[0].languages, decoding.to, folders[0]),
    )

    def translate(sources: Sequence[str], progress: Callable[[int, int], None] | None = None) -> list[str]:
        return [hypotheses[0].text for hypotheses in translator.translate(sources, progress)]

    return translate
