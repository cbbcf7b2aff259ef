"""Models trained elsewhere as model folders of ours: fairseq checkpoints with the vocabulary of their training.

Files are read as weights alone, so that they cannot run code; what does not belong together is told in a sentence.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.engines.fairseq.average import average, load
from kd.engines.fairseq.model import DICTIONARY, MODEL, SOURCE_DICTIONARY
from kd.models.description import LANGUAGES
from kd.models.vocabulary import MODEL as VOCABULARY
from kd.models.vocabulary import SPECIAL, read_dictionary


@dataclass(frozen=True)
class GivenModel:
    """The files of a model trained elsewhere."""

    checkpoint: Path
    vocabulary: Path  # sentencepiece, of both sides
    target_dictionary: Path
    source_dictionary: Path  # the same file where both sides share one
    languages: Path | None = None  # of a model of several language pairs: which, and whether its sources have tags

    @property
    def files(self) -> tuple[Path, ...]:
        """Each once, in a fixed order."""
        always = (self.checkpoint, self.vocabulary, self.target_dictionary, self.source_dictionary)
        return tuple(dict.fromkeys((*always, *([self.languages] if self.languages else []))))


def model_in(folder: Path) -> GivenModel:
    """The files of a model folder of ours."""
    source = folder / SOURCE_DICTIONARY
    target = folder / DICTIONARY
    languages = folder / LANGUAGES
    return GivenModel(
        folder / MODEL,
        folder / VOCABULARY,
        target,
        source if source.is_file() else target,
        languages if languages.is_file() else None,
    )


def import_model(given: GivenModel, out: Path) -> int:
    """Writes a model folder and returns the number of updates that the checkpoint says, 0 where it says none.

    The optimiser's state and paths of the other machine stay behind.

    Raises: UserError for a file that is no checkpoint of fairseq's, no Transformer for translation, or has been trained
    with another vocabulary.
    """
    state = load(given.checkpoint)
    _check_dictionaries(given, state["model"])
    _check_pieces(given)
    average([given.checkpoint], out / MODEL)
    shutil.copyfile(given.vocabulary, out / VOCABULARY)
    shutil.copyfile(given.target_dictionary, out / DICTIONARY)
    if given.source_dictionary.read_bytes() != given.target_dictionary.read_bytes():
        shutil.copyfile(given.source_dictionary, out / SOURCE_DICTIONARY)
    if given.languages:
        shutil.copyfile(given.languages, out / LANGUAGES)
    history: list[dict[str, Any]] = state.get("optimizer_history") or [{}]
    return int(history[-1].get("num_updates", 0))


def _check_dictionaries(given: GivenModel, weights: dict[str, Any]) -> None:
    """Each side's embedding has a row for each symbol."""
    for side, path in (("encoder", given.source_dictionary), ("decoder", given.target_dictionary)):
        embedding = weights.get(f"{side}.embed_tokens.weight")
        if embedding is None:
            raise UserError(
                f"{given.checkpoint} holds no {side} of a Transformer.", "Give a translation model of fairseq's."
            )
        symbols = len(SPECIAL) + len(read_dictionary(path))
        if len(embedding) != symbols:
            raise UserError(
                f"{given.checkpoint} has {len(embedding)} symbols in its {side}, and {path} has {symbols}.",
                "Give the dictionaries of its data folder: dict.txt of each side.",
            )


def _check_pieces(given: GivenModel) -> None:
    """The dictionaries are of the sentencepiece model's pieces, most of them: fairseq may add fillers and tags."""
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_file=str(given.vocabulary))
    except (OSError, RuntimeError):
        raise UserError(f"{given.vocabulary} is no sentencepiece model.", "Give the one of the training.") from None
    pieces = {processor.id_to_piece(number) for number in range(processor.get_piece_size())}
    for path in dict.fromkeys((given.target_dictionary, given.source_dictionary)):
        symbols = [symbol for symbol in read_dictionary(path) if not symbol.startswith("madeupword")]
        known = sum(symbol in pieces for symbol in symbols)
        if known * 2 < len(symbols):
            raise UserError(
                f"{known} of the {len(symbols)} symbols of {path} are pieces of {given.vocabulary}.",
                "Give the sentencepiece model of the training; models of other segmentations do not serve.",
            )
