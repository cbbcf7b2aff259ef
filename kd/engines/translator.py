"""Translate any text with a model folder: an exported student, a trained model, or an ensemble.

`kd translate` uses it, and so does `from kd import Translator`. Every input line gives one output line.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kd.base.errors import UserError
from kd.corpora.segments import Segment, segments
from kd.engines.reading import reader
from kd.models.description import CTRANSLATE2, ENDPOINT, tag_for
from kd.models.folder import ModelFolder
from kd.models.languages import primary

WINDOW = 2048  # lines translated together: enough for batches of equal length, few enough for memory
MAX_PIECES = 256  # tokens of a source, if a model does not state the length of its training, and of an output
_NO_SPACES = {"ja", "km", "lo", "my", "th", "zh"}  # written without spaces between sentences

PathLike = str | os.PathLike[str]


class Translation(NamedTuple):
    """Text on one line, and its score: natural logarithm of the probability, averaged over the tokens."""

    text: str
    score: float


class Engine(Protocol):
    """An engine that translates short text.

    Attributes:
        max_source_pieces: The longest source of the training, in tokens.
        source_language: The code of the only source language; empty if there are several or none is stated.
        target_language: The code of the target language; empty if none is stated.
        concurrent: Whether several threads may call `nbest` at once.
    """

    max_source_pieces: int
    target_language: str
    source_language: str
    concurrent: bool

    def nbest(self, sources: Sequence[str], count: int) -> list[list[Translation]]:
        """Return between one and `count` translations of each source, the best first."""
        ...

    def into(self, to: str) -> Engine:
        """Return an engine for another target language of the model; it shares the weights if possible."""
        ...

    def fits(self, text: str) -> bool:
        """Return whether a text is no longer than those of the model's training."""
        ...

    def knows(self, character: str) -> bool:
        """Return whether the vocabulary has a character itself, not only its bytes."""
        ...


@dataclass(frozen=True)
class Options:
    """Settings of the search and the device.

    Attributes:
        beam: Width of the search.
        nbest: Translations of each line.
        max_pieces: Longest output of a segment, in tokens; by default 256, or that of the training if it is shorter.
        length_penalty: Exponent of the length in the score.
        batch_tokens: Source tokens per batch, padding included.
        threads: CPU threads.
        device: `cpu` or `cuda`.
    """

    beam: int = 4
    nbest: int = 1
    max_pieces: int | None = None
    length_penalty: float = 1.0
    batch_tokens: int = 2000
    threads: int = 1
    device: str = "cpu"
    disable_unk: bool = True  # no output has unknown symbols or bytes that are not UTF-8


class Translator:
    """A loaded model folder, or several that translate as an ensemble.

    A text with more tokens than the model was trained on is cut at ends of sentences, and the translations are joined.
    Blank lines stay blank.

    Args:
        model: The folder, or the folders of an ensemble's members.
        beam: Width of the search.
        nbest: Translations of each line, at most `beam`.
        max_pieces: Longest output of a segment, in tokens; by default 256, or that of the training if it is shorter.
        length_penalty: Exponent of the length in the score.
        batch_tokens: Source tokens per batch, padding included.
        threads: CPU threads; all cores by default.
        device: `cpu` or `cuda`.
        to: The target language. Required for a model with several.
        as_is: Whether to skip the normalisation of training text (NFC, no control or invisible characters, single
            spaces).
        source: The source language, for multilingual fairseq models that need it.
        disable_unk: Whether no output may have unknown symbols or bytes that are not UTF-8.

    Raises:
        UserError: A folder has no model, settings contradict each other, the model does not translate into the
            language, or the device cannot be used.
    """

    def __init__(
        self,
        model: PathLike | Sequence[PathLike],
        *,
        beam: int = 4,
        nbest: int = 1,
        max_pieces: int | None = None,
        length_penalty: float = 1.0,
        batch_tokens: int = 2000,
        threads: int | None = None,
        device: str = "cpu",
        to: str | None = None,
        source: str | None = None,
        as_is: bool = False,
        disable_unk: bool = True,
    ) -> None:
        if not 1 <= nbest <= beam:
            raise UserError(f"nbest is {nbest} but beam is {beam}.", "Set nbest to a number from 1 to beam.")
        folders = [Path(model)] if isinstance(model, str | os.PathLike) else [Path(each) for each in model]
        count = threads or len(os.sched_getaffinity(0))
        options = Options(beam, nbest, max_pieces, length_penalty, batch_tokens, count, device, disable_unk)
        self._engine = _load(folders, options, to, source)
        self._read = _unchanged if as_is else reader(self._engine.knows)
        self._joint = _joint(self._engine.target_language)
        self._nbest = nbest

    @property
    def concurrent(self) -> bool:
        """Whether several threads may call `window` at once."""
        return self._engine.concurrent

    @property
    def source_language(self) -> str:
        """The code of the model's only source language; empty if there are several or none is stated."""
        return self._engine.source_language

    def into(self, to: str) -> Translator:
        """Return a translator into another target language of the model; it shares the loaded weights.

        Raises:
            UserError: The model does not translate into that language.
        """
        other = copy.copy(self)
        other._engine = self._engine.into(to)
        other._joint = _joint(to)
        return other

    def translate(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the best translation of each line, in order. Memory does not grow with the number of lines.

        Raises:
            TypeError: A line is not text, or a text was given instead of a list of lines.
        """
        return (found[0].text for found in self.nbest(lines))

    def nbest(self, lines: Iterable[str]) -> Iterator[list[Translation]]:
        """Yield the best translations of each line, the best first; a blank line has a single, empty one."""
        if isinstance(lines, str):
            raise TypeError("give a list of lines instead of a single text")
        return self._windows(iter(lines))

    def _windows(self, rest: Iterator[str]) -> Iterator[list[Translation]]:
        while window := list(islice(rest, WINDOW)):
            yield from self.window(window)

    def window(self, lines: Sequence[str], nbest: int | None = None) -> list[list[Translation]]:
        """Return the best translations of some lines at once: `nbest` per line, or the translator's own number."""
        cut = [self._segments(line) for line in lines]
        flat = [segment.text for each in cut for segment in each]
        found = iter(self._engine.nbest(flat, nbest or self._nbest))
        return [self._joined(each, [next(found) for _ in each]) for each in cut]

    def _segments(self, line: str) -> list[Segment]:
        if not isinstance(line, str):
            raise TypeError(f"a line must be text, not {type(line).__name__}")
        cut = segments(line, self._engine.source_language, lambda text: self._engine.fits(self._read(text)))
        read = [Segment(self._read(segment.text), segment.space) for segment in cut]
        return [segment for segment in read if segment.text.strip()]

    def _joined(self, cut: Sequence[Segment], lists: Sequence[list[Translation]]) -> list[Translation]:
        """Join the k-th best translations of a line's segments to the k-th best of the line."""
        if not cut:
            return [Translation("", 0.0)]
        whole = []
        for rank in range(min(map(len, lists))):
            chosen = [each[rank] for each in lists]
            texts = [each.text for each in chosen]
            score = sum(each.score for each in chosen) / len(chosen)
            whole.append(Translation(_one_line(self._join(cut, texts)), score))
        return whole

    def _join(self, cut: Sequence[Segment], texts: Sequence[str]) -> str:
        # Keep the source's own separator if it has one, such as a line separator between sentences.
        spaces = [self._joint if segment.space in ("", " ") else segment.space for segment in cut[:-1]]
        return "".join(text + space for text, space in zip(texts, [*spaces, ""], strict=True))


def _joint(language: str) -> str:
    """Return the text between two sentences of a language."""
    return "" if primary(language) in _NO_SPACES else " "


def _unchanged(text: str) -> str:
    return text


def _one_line(text: str) -> str:
    # A model with byte tokens can write a line break.
    return text.replace("\n", " ") if "\n" in text else text


def _load(folders: Sequence[Path], options: Options, to: str | None, source: str | None) -> Engine:
    if not folders:
        raise UserError("No model is given.", "Name a model folder.")
    if options.device == "cuda":
        import ctranslate2

        if not ctranslate2.get_cuda_device_count():
            raise UserError(
                "No CUDA device can be used on this machine.", "Check the GPU with `nvidia-smi`, or use the CPU."
            )
    models = [ModelFolder.open(folder) for folder in folders]
    if served := [model for model in models if model.engine == ENDPOINT]:
        raise UserError(
            f"{served[0].path} is a teacher behind a server, which only the stages of a run can use.",
            "Give the folder of a model.",
        )
    for model in models:
        _check_target(model, to)
    if all(model.engine != CTRANSLATE2 for model in models):
        return _Fairseq(models, options, to, source)
    if len(models) > 1:
        raise UserError(
            "Exported models cannot translate as an ensemble: CTranslate2 does not support ensembles.",
            "Give the folders of trained models.",
        )
    return (_Converted if models[0].tokenizer else _CTranslate2)(models[0].path, options, to)


def _check_target(model: ModelFolder, to: str | None) -> None:
    """Raise UserError if a model is not known to translate into the requested language."""
    languages = model.languages
    tag_for(languages, to, model.path)
    if to is not None and not languages.target and model.engine == CTRANSLATE2:
        raise _one_language(model, "target", "--to")
    if to is not None and languages.target and to not in languages.target:
        raise UserError(
            f"{model.path} translates into {', '.join(languages.target)}, not into {to}.", "Use another model."
        )


def _one_language(model: ModelFolder, side: str, option: str) -> UserError:
    return UserError(
        f"{model.path} does not state its {side} language.",
        f"Leave out {option}: the model {'writes' if side == 'target' else 'reads'} a single language.",
    )


class _CTranslate2:
    """An exported model."""

    concurrent = True

    def __init__(self, folder: Path, options: Options, to: str | None) -> None:
        from kd.engines.ctranslate2 import Translator as Exported

        self._model = Exported(
            folder,
            threads=options.threads,
            beam=options.beam,
            max_pieces=options.max_pieces or MAX_PIECES,
            length_penalty=options.length_penalty,
            device=options.device,
            to=to,
            disable_unk=options.disable_unk,
        )
        self._options = options
        description = self._model.description
        self.max_source_pieces = int(description.get("max_source_pieces") or MAX_PIECES)
        self.source_language = _only(description.get("source_languages"))
        self.target_language = to or _only(description.get("target_languages"))

    def fits(self, text: str) -> bool:
        return self._model.pieces(text, self.max_source_pieces) <= self.max_source_pieces

    def knows(self, character: str) -> bool:
        return self._model.knows(character)

    def into(self, to: str) -> _CTranslate2:
        other = copy.copy(self)
        other._model = self._model.into(to)
        other.target_language = to
        return other

    def nbest(self, sources: Sequence[str], count: int) -> list[list[Translation]]:
        lists = self._model.nbest(sources, count, self._options.batch_tokens)
        return [[Translation(text, score) for text, score in each] for each in lists]


class _Converted:
    """A model that was converted from Hugging Face. It has one target language."""

    concurrent = False

    def __init__(self, folder: Path, options: Options, to: str | None) -> None:
        from kd.engines.converted import ConvertedTranslator

        self._model = ConvertedTranslator(folder, **asdict(options))
        self.max_source_pieces = int(self._model.max_source_pieces or MAX_PIECES)
        languages = ModelFolder.open(folder).languages
        self.source_language, self.target_language = _only(languages.source), to or _only(languages.target)
        self.fits, self.knows = self._model.fits, self._model.knows

    def into(self, to: str) -> _Converted:
        raise UserError(
            f"The model translates into {self.target_language or 'one language'}, not into {to}.", "Use another model."
        )

    def nbest(self, sources: Sequence[str], count: int) -> list[list[Translation]]:
        lists = self._model.translate(sources)
        return [[Translation(each.text, each.score) for each in found[:count]] for found in lists]


class _Fairseq:
    """Trained models, alone or as an ensemble."""

    concurrent = False

    def __init__(
        self, models: Sequence[ModelFolder], options: Options, to: str | None, source: str | None = None
    ) -> None:
        from kd.engines.fairseq.language_tokens import Direction
        from kd.engines.fairseq.translate import EnsembleTranslator
        from kd.models.vocabulary import Vocabulary

        languages = models[0].languages
        members = [member for model in models for member in model.all_members]
        for model in models:
            model.check()
        self._models, self._options, self._source = models, options, source
        self._vocabulary = Vocabulary(members[0].path)
        self._tag = tag_for(languages, to, models[0].path)
        self._model = EnsembleTranslator(
            [member.path for member in members],
            self._vocabulary,
            **asdict(options),
            score_members=False,
            tag=self._tag,
            direction=Direction(source, to),
        )
        own = self._model.languages
        if own is None and not languages.target and (to or source):
            raise _one_language(models[0], *(("target", "--to") if to else ("source", "--from")))
        self.source_language = source or (own and own[0]) or _only(languages.source)
        self.target_language = to or (own and own[1]) or _only(languages.target)
        self.max_source_pieces = self._model.max_source_pieces

    def fits(self, text: str) -> bool:
        if len(text) < self.max_source_pieces // 4:  # a character has at most four bytes, a token at least one
            return True
        (ids,) = self._vocabulary.encode_ids([text], self._tag)
        return len(ids) <= self.max_source_pieces

    def knows(self, character: str) -> bool:
        return self._vocabulary.knows(character)

    def into(self, to: str) -> _Fairseq:
        # fairseq's translator has one tag, so the weights are loaded again.
        return _Fairseq(self._models, self._options, to, self._source)

    def nbest(self, sources: Sequence[str], count: int) -> list[list[Translation]]:
        lists = self._model.translate(sources)
        return [[Translation(each.text, each.score) for each in found[:count]] for found in lists]


def _only(languages: Any) -> str:
    return str(languages[0]) if languages and len(languages) == 1 else ""
