"""Translates with one model or a true ensemble: beam search over the mean of the members' probabilities at each step.

The search is `search.py`'s, or fairseq's own where a model has parts that ours does not know. Here is the order of
work: text to pieces, batches by length, what to do with sources that are too long, and with a GPU that is too small.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kd.engines.fairseq.model import load_models
from kd.engines.vocabulary import Vocabulary
from kd.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from kd.engines.fairseq.search import Found

Progress = Callable[[int, int], None]  # sentences done, sentences in all

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hypothesis:
    """One translation. Scores are natural logarithms, divided by (pieces + 1) to the power of the length penalty."""

    text: str
    pieces: list[str]  # what the model wrote, without the end of sentence; encoding `text` again may give others
    score: float  # of the ensemble
    member_scores: list[float]  # of each member alone, for the same pieces; empty where they were not asked for


@dataclass
class Counts:
    """What happened to sources on their way, over all calls."""

    blank: int = 0  # not decoded: one empty hypothesis with the score 0
    cut: int = 0  # too long, and cut
    skipped: int = 0  # too long, and not decoded: one empty hypothesis with the score minus infinity
    halved: int = 0  # batches that the GPU's memory did not hold


@dataclass(frozen=True)
class Source:
    """A sentence to decode."""

    number: int  # position in the input
    ids: list[int]  # end of sentence included


@dataclass
class Prepared:
    """Sources as pieces, and the lists of those that are not decoded."""

    pending: list[Source] = field(default_factory=list)
    lists: dict[int, list[Hypothesis]] = field(default_factory=dict)


class Search(Protocol):
    """What finds translations."""

    def search(self, tokens: Tensor) -> list[list[Found]]:
        """The hypotheses of each source, the best first; `tokens` are sources padded on the left, ends included."""
        ...


class EnsembleTranslator:
    """Models of one vocabulary, loaded once, that translate any number of sentences.

    `max_pieces` is the longest output; the same limit holds for every sentence, and none is longer than what the models
    were trained on: the attribute `max_pieces` says what holds. Sources of more than `max_source_pieces` (what the
    models were trained on, when None or more than that) are cut there, or skipped: `skip_long`. Blank sources are not
    decoded. `counts` says how many of each. `batch_tokens` is the number of source pieces in a batch, padding included.
    `engine` is `stacked` or `stock`, by default stacked where the models allow it.
    """

    def __init__(
        self,
        model_folders: Sequence[Path],
        vocabulary: Vocabulary,
        *,
        beam: int,
        nbest: int = 1,
        max_pieces: int,
        length_penalty: float = 1.0,
        batch_tokens: int = 4000,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "fp32",
        score_members: bool = True,
        max_source_pieces: int | None = None,
        skip_long: bool = False,
        engine: str | None = None,
    ) -> None:
        import torch

        if nbest > beam:
            raise UserError(
                f"nbest is {nbest}, and a beam of {beam} finds no more than {beam}.", "Set beam to nbest or more."
            )
        torch.set_num_threads(threads)
        models, self._dictionary = load_models(model_folders, device)
        if len(self._dictionary) != vocabulary.size:
            raise UserError(
                f"The models have {len(self._dictionary)} pieces and the vocabulary {vocabulary.size}.",
                "Use the vocabulary that the models were trained with.",
            )
        if precision != "fp32":
            models = [model.to({"fp16": torch.float16, "bf16": torch.bfloat16}[precision]) for model in models]
        self.counts = Counts()
        self.members = len(models)
        self.max_source_pieces = min(
            max_source_pieces or math.inf, *(model.max_positions()[0] - 1 for model in models), *[math.inf]
        )
        self.max_pieces = min(max_pieces, *(model.max_decoder_positions() - 1 for model in models))
        if self.max_pieces < max_pieces:
            _LOG.warning(
                "Output is no longer than %d pieces, what the models were trained on; max_pieces is %d.",
                self.max_pieces,
                max_pieces,
            )
        self._vocabulary = vocabulary
        self._device = device
        self._nbest = nbest
        self._batch_tokens = batch_tokens
        self._score_members = score_members
        self._skip_long = skip_long
        self.engine, self._search = _search(
            models,
            self._dictionary,
            engine,
            beam=beam,
            max_pieces=self.max_pieces,
            length_penalty=length_penalty,
            score_members=score_members,
        )

    @property
    def cut(self) -> int:
        """Sources that were too long and were cut."""
        return self.counts.cut

    def translate(self, sources: Sequence[str], progress: Progress | None = None) -> list[list[Hypothesis]]:
        """The n-best list of each source, in the order given, the best first.

        A list is shorter than `nbest` where the search ended with fewer, or did not take place: see `Counts`.
        """
        prepared = self._prepare(sources)
        lists = prepared.lists
        done = len(lists)
        for batch in self._batches(prepared.pending):
            for source, hypotheses in zip(batch, self._decode(batch), strict=True):
                lists[source.number] = hypotheses
            done += len(batch)
            if progress:
                progress(done, len(sources))
        return [lists[number] for number in range(len(sources))]

    def _prepare(self, sources: Sequence[str]) -> Prepared:
        prepared = Prepared()
        for number, (text, ids) in enumerate(zip(sources, self._vocabulary.encode_ids(sources), strict=True)):
            if not ids or not text.strip():
                self.counts.blank += 1
                prepared.lists[number] = [self._nothing(0.0)]
                continue
            if len(ids) > self.max_source_pieces:
                if self._skip_long:
                    self.counts.skipped += 1
                    prepared.lists[number] = [self._nothing(-math.inf)]
                    continue
                self.counts.cut += 1
            prepared.pending.append(Source(number, [*ids[: int(self.max_source_pieces)], self._dictionary.eos()]))
        return prepared

    def _nothing(self, score: float) -> Hypothesis:
        return Hypothesis("", [], score, [score] * self.members if self._score_members else [])

    def _batches(self, sources: list[Source]) -> Iterator[list[Source]]:
        """Sources of like length together; the longest first, so that what does not fit into memory shows at once."""
        ordered = sorted(sources, key=lambda source: -len(source.ids))
        start = 0
        while start < len(ordered):
            size = max(1, self._batch_tokens // len(ordered[start].ids))
            yield ordered[start : start + size]
            start += size

    def _decode(self, batch: list[Source]) -> list[list[Hypothesis]]:
        """A batch; halved and tried again where the GPU's memory does not hold it."""
        import torch

        try:
            return self._decode_at_once(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise UserError(
                    f"A single sentence of {len(batch[0].ids)} pieces does not fit into the GPU's memory.",
                    "Set decode.beam, decode.max_pieces or decode.max_source_pieces lower.",
                ) from None
        # Outside of the handler: the exception's traceback would keep the tensors alive.
        torch.cuda.empty_cache()
        self.counts.halved += 1
        middle = len(batch) // 2
        return self._decode(batch[:middle]) + self._decode(batch[middle:])

    def _decode_at_once(self, batch: list[Source]) -> list[list[Hypothesis]]:
        from kd.engines.fairseq.stock import padded

        tokens = padded([source.ids for source in batch], self._dictionary.pad(), left=True).to(self._device)
        lists = self._search.search(tokens)
        return [[self._hypothesis(each) for each in found[: self._nbest]] for found in lists]

    def _hypothesis(self, found: Found) -> Hypothesis:
        pieces = self._vocabulary.pieces_of(found.ids[:-1])
        members = found.member_scores if self._score_members else []
        return Hypothesis(self._vocabulary.decode_pieces(pieces), pieces, found.score, members)


def _search(
    models: list[Any], dictionary: Any, engine: str | None, *, score_members: bool, **settings: Any
) -> tuple[str, Search]:
    """The search that these models allow, and its name."""
    from kd.engines.fairseq.search import StackedSearch
    from kd.engines.fairseq.stacked import unsupported
    from kd.engines.fairseq.stock import StockSearch

    reasons = [reason for model in models if (reason := unsupported(model))]
    if engine is None and reasons:
        _LOG.warning("fairseq's own, slower search is used for the model: %s.", reasons[0])
    if engine == "stock" or reasons:
        return "stock", StockSearch(models, dictionary, score_members=score_members, **settings)
    return "stacked", StackedSearch(models, dictionary, **settings)
