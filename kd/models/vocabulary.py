"""Train sentencepiece vocabularies in fairseq's form, and convert text to tokens and back.

A vocabulary folder holds `vocabulary.model` (sentencepiece), `vocabulary.vocab` (pieces and scores, for people) and
`dict.txt` (fairseq's dictionary).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.base.errors import UserError
from kd.base.files import write_text
from kd.models.files import CODES, DICTIONARY, PIECES, SOURCE_DICTIONARY, VOCABULARY
from kd.models.matching import load_processor, read_dictionary
from kd.models.moses_bpe import MosesBpe, read_segmentation
from kd.models.segmentation import Sampler, Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kd.recipe.schema import VocabularyConfig

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3 of every fairseq dictionary, and of the models trained here
_UNKNOWN = 3

MOST_DISTINCT = 1_000_000  # placeholders counted at a time

# Unigram training adds its threads' sums, so the last bits depend on their number: the same on every machine.
_THREADS = 4

# Controls and characters that some tools read as line ends: as pieces they would break dict.txt and other tools' files.
# They are removed from the training text and encoded as bytes (`<0x0D>`), without loss if `byte_fallback` is on.
_NO_PIECES = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")

_BYTE = re.compile("<0x[0-9A-F]{2}>")  # the piece of a byte, with byte_fallback


def train(
    sentences: Iterable[str],
    out: Path,
    config: VocabularyConfig,
    placeholders: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> None:
    """Train one joint vocabulary and write its folder. Equal sentences and settings give equal files.

    U+2581 (`▁`) in text is decoded as a space, as always in sentencepiece.

    Args:
        sentences: The text, of which the first `config.sample` sentences are used.
        out: The folder to write.
        config: The settings. `size` counts special symbols, placeholders, bytes and pieces: it is the number of rows of
            the embedding.
        placeholders: Texts that are one piece each wherever they occur.
        tags: Pieces to which text is never encoded (sentencepiece's control symbols).

    Raises:
        UserError: The text is too small for the size, the size is too small for the text, or a placeholder is a special
            symbol.
    """
    import sentencepiece

    _check_placeholders(placeholders)
    out.mkdir(parents=True, exist_ok=True)
    count = _Count(islice(sentences, config.sample))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(_NO_PIECES.sub(" ", sentence) for sentence in count),
            model_writer=model,
            vocab_size=config.size,
            model_type=config.model,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            remove_extra_whitespaces=False,
            byte_fallback=config.byte_fallback,
            split_digits=config.split_digits,
            # sentencepiece writes a space inside a piece as ▁.
            user_defined_symbols=[
                placeholder.replace(" ", "▁") for placeholder in dict.fromkeys(placeholders) if placeholder not in tags
            ],
            control_symbols=list(tags),
            bos_id=0,
            pad_id=1,
            eos_id=2,
            unk_id=_UNKNOWN,
            num_threads=_THREADS,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise _explained(str(error), config, count.sentences) from error
    (out / VOCABULARY).write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    scores = (f"{piece}\t{processor.get_score(number):.6g}\n" for number, piece in enumerate(pieces))
    write_text(out / PIECES, "".join(scores))
    # fairseq's counts only matter where a dictionary is sorted or cut, and this one never is.
    write_text(out / DICTIONARY, "".join(f"{piece} 1\n" for piece in pieces if piece not in SPECIAL))


def _check_placeholders(placeholders: Sequence[str]) -> None:
    """Raise UserError for placeholders such as `</s>` (HTML's strike-through), which would end sentences."""
    taken = [placeholder for placeholder in placeholders if placeholder in SPECIAL or _BYTE.fullmatch(placeholder)]
    if taken:
        raise UserError(
            f"vocabulary.placeholders matches {', '.join(taken)} in the text, which are special symbols of every "
            "vocabulary.",
            "Use an expression that does not match them, such as '(?!</?s>)</?\\w+>'.",
        )


class _Count:
    """Count the sentences of an iterable."""

    def __init__(self, sentences: Iterator[str]) -> None:
        self._rest = sentences
        self.sentences = 0

    def __iter__(self) -> Iterator[str]:
        for sentence in self._rest:
            self.sentences += 1
            yield sentence


def _explained(message: str, config: VocabularyConfig, sentences: int) -> UserError:
    """Convert sentencepiece's error into an error about kd's settings."""
    if sentences == 0 or "sentences_.empty()" in message or "Input corpus is empty" in message:
        return UserError(
            "There is no text to train a vocabulary on.", "Check the corpus, and the pairs that clean dropped."
        )
    if highest := re.search(r"value <= (\d+)", message):
        return UserError(
            f"{sentences} sentences have too few distinct words for a vocabulary of {config.size} pieces.",
            f"Set vocabulary.size to {highest[1]} or less, or give more text.",
        )
    if lowest := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"A vocabulary of {config.size} pieces cannot hold the text's {lowest[1]} characters, bytes and symbols.",
            f"Set vocabulary.size to more than {lowest[1]}, or vocabulary.character_coverage lower.",
        )
    return UserError(f"sentencepiece refused to train a vocabulary: {message}", "Check the settings of `vocabulary`.")


class Vocabulary:
    """A loaded vocabulary folder. Ids are fairseq's: positions in its dictionary, not sentencepiece's ids.

    Folders made elsewhere work too, if they hold `vocabulary.model` and its `dict.txt`. Pieces that the dictionary
    lacks become `<unk>`. If there is a `dict.source.txt`, sentences are encoded with it, as sources. A folder with
    `bpe.codes` segments text with them, as `moses_bpe.py` describes.

    Raises:
        UserError: A file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segmentation = segmentation = read_segmentation(folder)
        self.model_file = folder / (CODES if segmentation else VOCABULARY)
        self._processor: Any = None if segmentation else load_processor(self.model_file)
        self._symbols = [*SPECIAL, *read_dictionary(folder / DICTIONARY)]
        self._number = {symbol: number for number, symbol in enumerate(self._symbols)}
        source = folder / SOURCE_DICTIONARY
        encoding, self._source_symbols = self._number, self._symbols
        if source.is_file():
            self._source_symbols = [*SPECIAL, *read_dictionary(source)]
            encoding = {symbol: number for number, symbol in enumerate(self._source_symbols)}
        if segmentation:
            self._processor = MosesBpe(self.model_file, segmentation, self._source_symbols[len(SPECIAL) :])
        numbers = [
            encoding.get(self._processor.id_to_piece(number), _UNKNOWN)
            for number in range(self._processor.get_piece_size())
        ]
        self._samplers: dict[tuple[float, int], Sampler] = {}
        self._from_processor = None if numbers == list(range(len(numbers))) else numbers

    @property
    def size(self) -> int:
        """The number of rows of the embedding: all pieces and the four special symbols."""
        return len(self._symbols)

    def extend(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Append symbols that fairseq adds to the dictionaries when it loads a model, such as language tokens."""
        for symbols, more in ((self._source_symbols, source), (self._symbols, target)):
            known = set(symbols)
            symbols.extend(symbol for symbol in more if symbol not in known)
        self._number = {symbol: number for number, symbol in enumerate(self._symbols)}

    def knows(self, character: str) -> bool:
        """Return whether the vocabulary has a character as such, not only its bytes."""
        return bool(self._processor.piece_to_id(character) != self._processor.unk_id())

    def encode_ids(self, sentences: Sequence[str], tag: str | None = None) -> list[list[int]]:
        """Return the fairseq ids of each sentence, without the end of sentence; a tag comes first.

        A sentence without pieces, which has nothing to translate, gets no tag either.
        """
        encoded: list[list[int]] = self._processor.encode(list(sentences), out_type=int, num_threads=1)
        if self._from_processor is not None:
            numbers = self._from_processor
            encoded = [[numbers[number] for number in sentence] for sentence in encoded]
        if tag is None:
            return encoded
        first = self._tag_number(tag)
        return [[first, *sentence] if sentence else [] for sentence in encoded]

    def encode_array(
        self, sentences: Sequence[str], tag: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the concatenated fairseq ids of all sentences, ends of sentence included, and each sentence's length.

        A tag, if given, begins each sentence and counts towards its length. Faster than `encode_ids`, since no id
        becomes a Python object.
        """
        encoded = self._processor.encode(list(sentences), out_type="numpy", num_threads=1)
        return self._ended(encoded, tag)

    def sample_array(
        self, sentences: Sequence[str], sampling: Sampling, tag: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Encode like `encode_array`, with random segmentations that depend only on the settings and the sentences.

        Raises:
            UserError: The model is not a unigram model.
        """
        kind = (sampling.alpha, sampling.nbest)
        if kind not in self._samplers:
            self._samplers[kind] = Sampler(self._processor, *kind)
        return self._ended(self._samplers[kind].sample(sentences, sampling.seed), tag)

    def _tag_number(self, tag: str) -> int:
        number = self._source_symbols.index(tag) if tag in self._source_symbols else None
        if number is None:
            raise UserError(f"{self.folder} has no symbol {tag}.", "Train the vocabulary with vocabulary.tags=true.")
        return number

    def _ended(
        self, encoded: Sequence[NDArray[np.int32]], tag: str | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Convert sentencepiece's ids to fairseq's, with tags and ends of sentence."""
        import numpy as np

        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        numbers = np.concatenate(encoded) if len(encoded) else np.zeros(0, dtype=np.int32)
        if self._from_processor is not None:
            numbers = np.asarray(self._from_processor)[numbers]
        ids = np.full(len(numbers) + len(encoded), SPECIAL.index("</s>"), dtype=np.int64)
        is_piece = np.ones(len(ids), dtype=bool)
        is_piece[np.cumsum(lengths + 1) - 1] = False
        ids[is_piece] = numbers
        if tag is None:
            return ids, (lengths + 1).astype(np.int32)
        starts = np.cumsum(lengths + 1) - (lengths + 1)
        return np.insert(ids, starts, self._tag_number(tag)), (lengths + 2).astype(np.int32)

    def encode_pieces(self, sentences: Sequence[str]) -> list[list[str]]:
        """Return the pieces of each sentence, as strings."""
        return self._processor.encode(list(sentences), out_type=str, num_threads=1)

    def encode_targets(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the fairseq ids of each sentence of the target side, without the end of sentence."""
        encoded = self._target_processor.encode(list(sentences), out_type=str, num_threads=1)
        return [self.ids_of(pieces) for pieces in encoded]

    @cached_property
    def _target_processor(self) -> Any:
        if self._segmentation is None:
            return self._processor
        turned = replace(self._segmentation, source=self._segmentation.target)  # the tokeniser of the other language
        return MosesBpe(self.model_file, turned, self._symbols[len(SPECIAL) :])

    def decode_pieces(self, pieces: Sequence[str]) -> str:
        """Return the text of pieces; bytes that are not valid UTF-8 become U+FFFD."""
        return self._processor.decode(list(pieces)) if pieces else ""

    def ids_of(self, pieces: Sequence[str]) -> list[int]:
        """Return the fairseq ids of pieces."""
        return [self._number.get(piece, _UNKNOWN) for piece in pieces]

    def pieces_of(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of fairseq ids of targets."""
        return [self._symbols[number] for number in ids]

    def source_pieces_of(self, ids: Sequence[int]) -> list[str]:
        """Return the pieces of fairseq ids of sources, as `encode_ids` returns them."""
        return [self._source_symbols[number] for number in ids]


def find_placeholders(sentences: Iterable[str], pattern: str, most: int) -> list[str]:
    """Return the `most` most frequent distinct matches of a regular expression, by frequency, then by text.

    To bound memory, the rarest matches are dropped whenever there are more than a million distinct ones.

    Raises:
        UserError: The expression is not valid.
    """
    try:
        find: Callable[[str], Iterator[re.Match[str]]] = re.compile(pattern).finditer
    except re.error as error:
        raise UserError(
            f"vocabulary.placeholders is not a regular expression: {error}.", "Write one such as '\\{\\w+\\}'."
        ) from error
    counts: dict[str, int] = {}
    for sentence in sentences:
        for match in find(sentence):
            if match[0] and not _NO_PIECES.search(match[0]):
                counts[match[0]] = counts.get(match[0], 0) + 1
        if len(counts) > MOST_DISTINCT:
            counts = {text: counts[text] for text in _by_frequency(counts)[: MOST_DISTINCT // 2]}
    return _by_frequency(counts)[:most]


def _by_frequency(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda text: (-counts[text], text))
