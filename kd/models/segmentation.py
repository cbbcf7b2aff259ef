"""Subword regularisation (Kudo, 2018): samples segmentations of text by the probabilities of a unigram model.

Sentencepiece's own sampling is not reproducible: in 0.2.3 each process draws different segmentations from the same
seed. Here Python's generator, which is the same everywhere, draws the segmentations of words.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kd.base.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REMEMBERED = 50_000  # words whose segmentations are kept; about 1 kB each
LONGEST = 200  # characters; a longer word, such as a table without a space, gets its best segmentation
_SPACE = "\u2581"  # sentencepiece's sign for a space
_BOUNDARY = re.compile(f"[ {_SPACE}]")


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling."""

    alpha: float  # exponent of the probabilities: 1 leaves them as they are, 0 makes them equal
    nbest: int  # most probable segmentations of each word, among which one is drawn
    seed: int = 0


class Sampler:
    """Sample segmentations with a sentencepiece unigram model.

    No piece of such a model contains a space. So the probability of a sentence's segmentation is the product of its
    words' probabilities, and words can be drawn independently (Kudo's l-best sampling, applied to each word). Sentences
    with a symbol that contains a space, such as the placeholder `{count, plural}`, get their best segmentation.

    Raises:
        UserError: The model is not a unigram model.
    """

    def __init__(self, processor: Any, alpha: float, nbest: int) -> None:
        self._processor = processor
        self._alpha = alpha
        self._nbest = nbest
        pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
        self._scores = [processor.get_score(number) for number in range(len(pieces))]
        try:
            processor.nbest_encode("a", nbest_size=2, out_type=int)
        except RuntimeError:
            raise UserError(
                "This vocabulary cannot sample segmentations: its model is not a unigram model.",
                "Set vocabulary.model to unigram, or encode.sampling.alpha to 0.",
            ) from None
        spaced = [re.escape(piece) for piece in pieces if _SPACE in piece[1:]]
        self._spaced = re.compile("|".join(spaced)) if spaced else None
        self._empty = self._bytes(processor.encode(" ")[:1])  # a space before another; models may remove it
        self._known: dict[str, tuple[list[float], list[bytes]]] = {}

    def sample(self, sentences: Sequence[str], seed: int) -> list[NDArray[np.int32]]:
        """Return the ids of a sampled segmentation of each sentence; they depend only on the seed and the sentences."""
        import numpy as np

        draw = random.Random(seed).random
        found = []
        for sentence in sentences:
            if self._spaced is not None and self._spaced.search(sentence.replace(" ", _SPACE)):
                found.append(self._bytes(self._processor.encode(sentence)))
            else:  # an empty sentence has no pieces, an empty word the piece of its space
                found.append(
                    b"".join([self._draw(word, draw()) for word in _BOUNDARY.split(sentence)] if sentence else ())
                )
        return [np.frombuffer(each, dtype=np.int32) for each in found]

    def _draw(self, word: str, place: float) -> bytes:
        """Return a word's segmentation at a quantile, 0 to 1, of the distribution of its segmentations."""
        known = self._known.get(word)
        if known is None:
            known = self._segmentations(word)
            if len(self._known) < REMEMBERED:
                self._known[word] = known
        ends, segmentations = known
        return segmentations[bisect(ends, place)]

    def _segmentations(self, word: str) -> tuple[list[float], list[bytes]]:
        """Return the cumulative probabilities of all segmentations but the last, and the segmentations."""
        if not word:
            return [], [self._empty]
        if len(word) > LONGEST:  # sentencepiece would search for up to half a minute and then fail
            return [], [self._bytes(self._processor.encode(word))]
        best = self._processor.nbest_encode(word, nbest_size=self._nbest, out_type=int)
        scores = [self._alpha * sum(self._scores[number] for number in each) for each in best]
        weights = [math.exp(score - max(scores)) for score in scores]
        total = sum(weights)
        return [end / total for end in accumulate(weights)][:-1], [self._bytes(each) for each in best]

    @staticmethod
    def _bytes(numbers: Sequence[int]) -> bytes:
        import numpy as np

        return np.asarray(numbers, dtype=np.int32).tobytes()
