"""Export trained models to CTranslate2, in which students are deployed, and translate with the exports.

An exported folder holds `model/` (CTranslate2's files), `vocabulary.model` (sentencepiece) and `model.json`.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kd.base.errors import UserError
from kd.engines.nan import nan_scores
from kd.models.description import CTRANSLATE2, Original, describe, tag_for
from kd.models.files import EXPORTED, EXPORTED_WEIGHTS, VOCABULARY
from kd.models.folder import ModelFolder, write_description
from kd.models.integrity import COPY_AGAIN, check_hash
from kd.models.matching import load_processor
from kd.models.normaliser import write_normalising

LONGEST = 1024  # tokens of a side, fairseq's default, if a model does not state the length of its training
T = TypeVar("T")
COMPUTE_TYPES = ("float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16")


def export(model_folder: Path, out: Path, compute_type: str, original: Original, *, normalise: bool = True) -> None:
    """Convert a trained model and write everything that translating needs.

    Args:
        model_folder: A trained model folder.
        out: The folder to write.
        compute_type: Number format, by CTranslate2's name.
        original: The facts of the model that `model.json` states.
        normalise: Whether the exported sentencepiece model normalises text, so that other runtimes need not.

    Raises:
        UserError: The type is unknown, a file is missing or damaged, or CTranslate2 does not support the model.
    """
    from kd.engines.fairseq.model import longest_pieces

    if compute_type not in COMPUTE_TYPES:
        raise UserError(
            f"{compute_type!r} is not a number format of CTranslate2.", f"Use one of {', '.join(COMPUTE_TYPES)}."
        )
    model = ModelFolder.open(model_folder)
    if model.segmentation:
        raise UserError(f"{model_folder} segments text with BPE codes.", "Exports need a sentencepiece model.")
    model.check()
    out.mkdir(parents=True, exist_ok=True)
    convert(model, out / EXPORTED, compute_type)
    if normalise:
        write_normalising(model.vocabulary, out / VOCABULARY)
    else:
        shutil.copyfile(model.vocabulary, out / VOCABULARY)
    longest = longest_pieces(model.weights)
    write_description(out, describe(CTRANSLATE2, compute_type, original, longest=longest, vocabulary=out / VOCABULARY))


def convert(model: ModelFolder, out: Path, compute_type: str) -> None:
    """Convert a fairseq model to CTranslate2's files.

    Raises:
        UserError: The model is damaged, or CTranslate2 does not support it.
    """
    from kd.engines.fairseq.conversion import Converter

    try:
        Converter(model).convert(str(out), quantization=compute_type, force=True)
    except (ValueError, AttributeError) as error:  # an unsupported setting, or a part that CTranslate2 lacks
        raise UserError(f"CTranslate2 does not support this model: {error}", "See its documentation.") from error


class Translator:
    """A loaded exported folder.

    `threads` batches are translated at once, each by one thread: several threads per batch make small models slower. As
    with fairseq, neither side gets longer than in training: a longer source is cut, and `max_pieces` is lowered. Blank
    lines stay blank. `to` is the target language, for models with several.

    Raises:
        UserError: The folder is damaged or not an exported model, or the model does not translate into that language.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 1,
        beam: int = 4,
        max_pieces: int = 256,
        length_penalty: float = 1.0,
        device: str = "cpu",
        to: str | None = None,
        disable_unk: bool = True,
    ) -> None:
        opened = ModelFolder.open(folder)
        if opened.engine != CTRANSLATE2:
            raise UserError(f"{folder} is not an exported model.", "Give a folder that `export` made.")
        for file in opened.files:
            check_hash(file)
        opened.check()
        self.description = opened.description
        self._folder, self._languages = folder, opened.languages
        self._start = self._tags(to)
        self._pieces = load_processor(opened.vocabulary)
        self._compute_type = compute_type = computable(self.description["compute_type"], device)
        self._model = load(folder / EXPORTED, compute_type=compute_type, threads=threads, device=device)
        # A model is used for no longer text than in its training, although the table of positions is longer.
        self._longest_source = int(self.description.get("max_source_pieces") or LONGEST)
        longest_target = int(self.description.get("max_target_pieces") or self._longest_source)
        self._options = {
            "beam_size": beam,
            "length_penalty": length_penalty,
            # CTranslate2 counts the tokens of the output only, as max_pieces does.
            "max_decoding_length": min(max_pieces, longest_target),
            "max_input_length": 0,
            "disable_unk": disable_unk,
        }

    def into(self, to: str) -> Translator:
        """Return a translator into another language of the model; it shares the loaded weights."""
        other = copy.copy(self)
        other._start = self._tags(to)
        return other

    def _tags(self, to: str | None) -> list[str]:
        tag = tag_for(self._languages, to, self._folder)
        return [tag] if tag else []

    def translate(self, sources: Sequence[str], batch_tokens: int = 2000) -> list[str]:
        """Return the best translation of each source, in order; `batch_tokens` is the source tokens of a batch."""
        return [found[0][0] for found in self.nbest(sources, 1, batch_tokens)]

    def nbest(self, sources: Sequence[str], count: int, batch_tokens: int = 2000) -> list[list[tuple[str, float]]]:
        """Return the best translations of each source with their scores (natural logarithms, divided by the length).

        A blank source has a single, empty translation with score 0.
        """
        pieces = self._pieces.encode(list(sources), out_type=str)
        wanted = [number for number, source in enumerate(sources) if pieces[number] and source.strip()]
        results = self._model.translate_batch(
            [[*self._start, *pieces[number]][: self._longest_source] for number in wanted],
            max_batch_size=batch_tokens,
            batch_type="tokens",
            num_hypotheses=count,
            return_scores=True,
            **self._options,
        )
        lists = [[("", 0.0)] for _ in sources]
        for number, result in zip(wanted, results, strict=True):
            if not result.hypotheses or any(math.isnan(score) for score in result.scores):
                raise nan_scores([], self._compute_type, one=True)
            texts = [self._pieces.decode(each) for each in result.hypotheses]
            if self._options["disable_unk"]:
                texts = [text.replace("\ufffd", "") for text in texts]
            lists[number] = list(zip(texts, result.scores, strict=True))
        return lists

    def pieces(self, text: str, enough: int) -> int:
        """Return the number of tokens of a source with its tag; an estimate if it is surely at most `enough`."""
        # A character has at most four bytes, a token at least one; one more stands for the space before the text.
        tag = len(self._start)
        return tag + (len(text) if 4 * len(text) + 1 + tag <= enough else len(self._pieces.encode(text)))

    def knows(self, character: str) -> bool:
        """Return whether the vocabulary has a character itself, not only its bytes."""
        return bool(self._pieces.piece_to_id(character) != self._pieces.unk_id())


def computable(compute_type: str, device: str) -> str:
    """Return the number format to compute in: the model's own, or CTranslate2's replacement on this device."""
    import ctranslate2

    return compute_type if compute_type in ctranslate2.get_supported_compute_types(device) else "default"


def load(folder: Path, *, compute_type: str, threads: int, device: str, one_batch: bool = False) -> Any:
    """Load the CTranslate2 files in a folder.

    Args:
        folder: The folder.
        compute_type: Number format, by CTranslate2's name.
        threads: Number of batches translated at once, each by one thread.
        device: `cpu` or `cuda`.
        one_batch: Translate one batch at a time instead, by all threads: random numbers then have a fixed order.

    Raises:
        UserError: The weights are damaged, or differ from the published ones.
    """
    check_hash(folder / EXPORTED_WEIGHTS)
    # MKL uses this instead of the number that CTranslate2 asks for, and splits each small product among threads: with 2
    # here a student was 2.7 times slower, a single sentence 9 times.
    os.environ.pop("MKL_NUM_THREADS", None)
    import ctranslate2

    try:
        return ctranslate2.Translator(
            str(folder),
            device=device,
            compute_type=compute_type,
            inter_threads=1 if one_batch else threads,
            intra_threads=threads if one_batch else 1,
        )
    except (RuntimeError, ValueError) as error:
        if "out of memory" in str(error):
            raise UserError("The model does not fit into the GPU's memory.", "Use another device.") from error
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"The model in {folder} is damaged: {reason}.", COPY_AGAIN) from error


class PieceTranslator:
    """Translate tokens with one model that `load` returned.

    Unlike fairseq, CTranslate2 does not end a translation that reaches `max_pieces`.
    """

    def __init__(
        self,
        model: Any,
        *,
        beam: int,
        nbest: int,
        max_pieces: int,
        length_penalty: float,
        batch_tokens: int,
        disable_unk: bool = True,
    ) -> None:
        self._model = model
        self._batches = Batches(batch_tokens)
        self._options = {
            "beam_size": beam,
            "num_hypotheses": nbest,
            "length_penalty": length_penalty,
            "max_decoding_length": max_pieces,
            "max_input_length": 0,
            "disable_unk": disable_unk,
        }

    @property
    def halved(self) -> int:
        """Number of times the batch size was halved because the GPU's memory was too small."""
        return self._batches.halved

    def nbest(self, sources: Sequence[list[str]]) -> list[list[list[str]]]:
        """Return the `nbest` best translations of each source, the best first. CTranslate2 sorts and batches them."""
        results = self._batches.run(
            lambda size: self._model.translate_batch(
                list(sources), max_batch_size=size, batch_type="tokens", **self._options
            ),
            max(map(len, sources), default=0),
        )
        return [result.hypotheses for result in results]


class PieceScorer:
    """Score given translations with one model that `load` returned."""

    def __init__(self, model: Any, *, batch_tokens: int) -> None:
        self._model = model
        self._batches = Batches(batch_tokens)

    @property
    def halved(self) -> int:
        """Number of times the batch size was halved because the GPU's memory was too small."""
        return self._batches.halved

    def log_probabilities(self, sources: Sequence[list[str]], targets: Sequence[list[str]]) -> list[list[float]]:
        """Return the natural log-probabilities of each target's tokens and its end, given its source."""
        results = self._batches.run(
            lambda size: self._model.score_batch(
                list(sources), list(targets), max_batch_size=size, batch_type="tokens", max_input_length=0
            ),
            max(map(len, sources), default=0),
        )
        return [result.log_probs for result in results]


class Batches:
    """A batch size in tokens that is halved whenever the GPU's memory is too small."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self.halved = 0

    def run(self, work: Callable[[int], T], longest: int) -> T:
        """Return `work(size)`; if memory runs out, call it again with half the size as long as batches get smaller.

        Raises: UserError if a single sentence does not fit; `longest` is its length in tokens.
        """
        while True:
            try:
                return work(self._tokens)
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    raise
                if self._tokens <= longest:
                    raise UserError(
                        "A single sentence does not fit into the GPU's memory.",
                        "Set decode.beam, decode.max_pieces or decode.max_source_pieces lower.",
                    ) from error
            self._tokens //= 2
            self.halved += 1
