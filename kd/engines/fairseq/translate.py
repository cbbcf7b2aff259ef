"""Translate with one model or a true ensemble: beam search over the members' mean probabilities at each step.

The search is that of `search.py`, or fairseq's own for models that it does not support. This module converts text to
tokens, orders sources by length, and handles those that are too long; `decoding_batches.py` makes batches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kd.base.errors import UserError
from kd.engines.fairseq.decoding_batches import batches, halving
from kd.engines.fairseq.language_tokens import Direction
from kd.engines.fairseq.model import holds_nan, load_ensemble
from kd.engines.fairseq.sampling import DiverseSearch, Diversity, SampledSearch, Sampling
from kd.engines.fairseq.search import NaNFound
from kd.engines.hypotheses import LONGEST_OUTPUT, Counts, Hypothesis, Progress, without_broken
from kd.engines.nan import NaNScores, nan_scores
from kd.models.matching import FILLER
from kd.models.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from kd.engines.fairseq.model import Loaded
    from kd.engines.fairseq.search import Found

_LOG = logging.getLogger(__name__)
_END = SPECIAL.index("</s>")
_NO_DIRECTION = Direction()


@dataclass(frozen=True)
class Frame:
    """The ids around a text: the ends of sentences, or the language tokens of a multilingual model.

    Attributes:
        source_first: Precede the source.
        source_end: Ends the source.
        target_start: First input of the decoder.
        target_first: Forced at the start of the output; not part of the text.
    """

    source_first: tuple[int, ...] = ()
    source_end: int = _END
    target_start: int = _END
    target_first: tuple[int, ...] = ()


def _frame(loaded: Loaded) -> Frame:
    """Return the ids of the language tokens that models expect."""
    tokens, source, target = loaded.tokens, loaded.source, loaded.target
    return Frame(
        (source.index(tokens.source_first),) if tokens.source_first else (),
        source.index(tokens.source_end) if tokens.source_end else _END,
        target.index(tokens.target_start) if tokens.target_start else _END,
        (target.index(tokens.target_first),) if tokens.target_first else (),
    )


@dataclass(frozen=True)
class Source:
    """A sentence to decode."""

    number: int  # position in the input
    ids: list[int]  # end of sentence included


@dataclass
class Prepared:
    """Sources as tokens, and the lists of sources that are not decoded, by number."""

    pending: list[Source] = field(default_factory=list)
    lists: dict[int, list[Hypothesis]] = field(default_factory=dict)


class Ensemble:
    """Loaded models of one vocabulary, and their limits."""

    def __init__(
        self,
        folders: Sequence[Path],
        vocabulary: Vocabulary,
        *,
        threads: int,
        device: str,
        precision: str,
        direction: Direction = _NO_DIRECTION,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        loaded = load_ensemble(folders, device, direction)
        self.models, self.dictionary = loaded.models, loaded.target
        self.frame = _frame(loaded)
        self.languages = loaded.languages
        self.added = frozenset(loaded.added)
        if loaded.added:
            vocabulary.extend(loaded.source.symbols[len(SPECIAL) :], loaded.target.symbols[len(SPECIAL) :])
        if len(self.dictionary) != vocabulary.size:
            raise UserError(
                f"The models have {len(self.dictionary)} pieces, but the vocabulary has {vocabulary.size}.",
                "Use the vocabulary that the models were trained with.",
            )
        if precision != "fp32":
            kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
            self.models = [model.to(kind) for model in self.models]
        self.device = device
        self.precision = precision

    def nan(self, members: Sequence[int]) -> NaNScores:
        """Return the error for members that computed NaN."""
        weights = [member for member in members if holds_nan(self.models[member])]
        return nan_scores(members, self.precision, weights=weights, one=len(self.models) == 1)

    def banned(self, *, disable_unk: bool) -> list[int]:
        """Return the ids that no output may contain: padding, language tokens, fillers, optionally `<unk>`."""
        symbols = enumerate(self.dictionary.symbols)
        banned = [number for number, symbol in symbols if symbol in self.added or symbol.startswith(FILLER)]
        return [self.dictionary.pad(), *([self.dictionary.unk()] if disable_unk else []), *banned]

    @property
    def longest_output(self) -> int:
        """The longest output of the training, in tokens, without its end and its language token."""
        positions = min(model.max_decoder_positions() for model in self.models)
        return int(positions) - 1 - len(self.frame.target_first)

    def limit_output(self, pieces: int | None) -> int:
        """Return the longest output: `pieces`, or less (with a warning) if the models were trained on shorter text.

        Args:
            pieces: Limit in tokens; None: the default of 256.
        """
        trained = self.longest_output
        if pieces is not None and pieces > trained:
            _LOG.warning("max_pieces is %d, but the models were trained on %d: %d is used.", pieces, trained, trained)
        return min(pieces or LONGEST_OUTPUT, trained)

    def limit_source(self, pieces: int | None) -> int:
        """Return the longest source: `pieces`, or that of the training if it is shorter or `pieces` is None."""
        trained = min(model.max_positions()[0] for model in self.models) - 1 - len(self.frame.source_first)
        return int(trained if pieces is None else min(pieces, trained))

    def matrix(self, batch: Sequence[list[int]]) -> Tensor:
        """Return sources padded on the left, as in training, [sentences, length]."""
        from kd.engines.fairseq.stock import padded

        return padded(batch, self.dictionary.pad(), left=True).to(self.device)


_PLAIN = Frame()


class Preparation:
    """Encode sources. Blank ones are not decoded; those longer than `max_pieces` are cut or skipped."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        max_pieces: int,
        counts: Counts,
        member_scores: int,
        *,
        skip: bool,
        tag: str | None = None,
        frame: Frame = _PLAIN,
    ) -> None:
        self._frame = frame
        self._vocabulary = vocabulary
        self._tag = tag
        self._max_pieces = max_pieces
        self._counts = counts
        self._member_scores = member_scores
        self._skip = skip

    def __call__(self, sources: Sequence[str]) -> Prepared:
        """Encode all sources; each is then either in `pending` or in `lists`."""
        prepared = Prepared()
        encoded = self._vocabulary.encode_ids(sources, self._tag)
        for number, (text, ids) in enumerate(zip(sources, encoded, strict=True)):
            if not ids or not text.strip():
                self._counts.blank += 1
                prepared.lists[number] = [self._nothing(0.0)]
            elif len(ids) > self._max_pieces and self._skip:
                self._counts.skipped += 1
                prepared.lists[number] = [self._nothing(-math.inf)]
            else:
                self._counts.cut += len(ids) > self._max_pieces
                framed = [*self._frame.source_first, *ids[: self._max_pieces], self._frame.source_end]
                prepared.pending.append(Source(number, framed))
        return prepared

    def _nothing(self, score: float) -> Hypothesis:
        return Hypothesis("", [], score, [score] * self._member_scores)


class Search(Protocol):
    """The interface of a search for translations."""

    def search(self, tokens: Tensor) -> list[list[Found]]:
        """Return the hypotheses of each source, the best first; `tokens`: sources padded on the left, ends included."""
        ...


class EnsembleTranslator:
    """Models of one vocabulary, loaded once, that translate any number of sentences.

    Blank sources are not decoded. No limit exceeds the lengths of the models' training: the attributes `max_pieces` and
    `max_source_pieces` are the limits in effect. `counts` holds the numbers of blank, cut and skipped sources.

    Args:
        model_folders: The members.
        vocabulary: Their vocabulary.
        beam: Width of the search.
        nbest: Hypotheses of each source.
        max_pieces: Longest output, the same for every sentence.
        length_penalty: Exponent of the length by which scores are divided.
        batch_tokens: Source tokens per batch, padding included.
        threads: CPU threads.
        device: Where the models run.
        precision: fp32, fp16 or bf16.
        score_members: Whether to return the score of each member as well.
        max_source_pieces: Longest source; None: the longest of the training. Longer ones are cut.
        skip_long: Whether longer sources are skipped instead.
        engine: `stacked` or `stock`; None: stacked if it supports the models.
        tag: First token of each source, for models of several targets that kd trained.
        direction: The languages, for multilingual models of fairseq.
        disable_unk: Whether no output may have an unknown symbol or bytes that are not UTF-8.
        method: None for beam search, or the settings of sampling (then `beam` is the number of samples) or of a diverse
            beam search.
    """

    def __init__(
        self,
        model_folders: Sequence[Path],
        vocabulary: Vocabulary,
        *,
        beam: int,
        nbest: int = 1,
        max_pieces: int | None,
        length_penalty: float = 1.0,
        batch_tokens: int = 4000,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "fp32",
        score_members: bool = True,
        max_source_pieces: int | None = None,
        skip_long: bool = False,
        engine: str | None = None,
        tag: str | None = None,
        method: Sampling | Diversity | None = None,
        direction: Direction = _NO_DIRECTION,
        disable_unk: bool = True,
    ) -> None:
        if nbest > beam:
            raise UserError(f"nbest is {nbest} but beam is {beam}.", "Set beam to nbest or more.")
        self._ensemble = Ensemble(
            model_folders, vocabulary, threads=threads, device=device, precision=precision, direction=direction
        )
        self.counts = Counts()
        self.languages = self._ensemble.languages  # source and target of multilingual models, else None
        self.members = len(self._ensemble.models)
        self.max_source_pieces = self._ensemble.limit_source(max_source_pieces)
        self.max_pieces = self._ensemble.limit_output(max_pieces)
        self._vocabulary = vocabulary
        self._prepare = Preparation(
            vocabulary,
            self.max_source_pieces,
            self.counts,
            self.members if score_members else 0,
            skip=skip_long,
            tag=tag,
            frame=self._ensemble.frame,
        )
        self._nbest = nbest
        self._batch_tokens = batch_tokens
        self._score_members = score_members
        self._disable_unk = disable_unk
        self._samples = isinstance(method, Sampling)
        self.engine, self._search = _search(
            self._ensemble,
            engine,
            method,
            beam=beam,
            max_pieces=self.max_pieces + len(self._ensemble.frame.target_first),
            length_penalty=length_penalty,
            score_members=score_members,
            banned=self._ensemble.banned(disable_unk=disable_unk),
        )

    def translate(self, sources: Sequence[str], progress: Progress | None = None) -> list[list[Hypothesis]]:
        """Return the n-best list of each source, in order, the best hypothesis first.

        A list is shorter than `nbest` if the search found fewer hypotheses, or was skipped: see `Counts`.
        """
        prepared = self._prepare(sources)
        lists = prepared.lists
        # The longest first, so that a batch that does not fit into memory fails at once.
        ordered = sorted(prepared.pending, key=lambda source: -len(source.ids))
        for batch in batches(ordered, lambda source: len(source.ids), self._batch_tokens):
            for source, hypotheses in zip(batch, halving(self._decode, batch, self.counts), strict=True):
                lists[source.number] = hypotheses
            if progress:
                progress(len(lists), len(sources))
        return [lists[number] for number in range(len(sources))]

    def _decode(self, batch: list[Source]) -> list[list[Hypothesis]]:
        try:
            lists = self._search.search(self._ensemble.matrix([source.ids for source in batch]))
        except NaNFound as error:
            raise self._ensemble.nan(error.members) from None
        hypotheses = [[self._hypothesis(each) for each in found] for found in lists]
        if self._disable_unk:
            hypotheses = [without_broken(each, samples=self._samples) for each in hypotheses]
        best = [each[: self._nbest] for each in hypotheses]
        self.counts.limited += sum(len(each.pieces) >= self.max_pieces for found in best for each in found)
        return best

    def _hypothesis(self, found: Found) -> Hypothesis:
        members = found.member_scores if self._score_members else []
        pieces = self._vocabulary.pieces_of(found.ids[len(self._ensemble.frame.target_first) : -1])
        return Hypothesis(self._vocabulary.decode_pieces(pieces), pieces, found.score, members)


def _search(
    ensemble: Ensemble,
    engine: str | None,
    method: Sampling | Diversity | None = None,
    *,
    score_members: bool,
    **settings: Any,
) -> tuple[str, Search]:
    """Return the name and the search for these models: stacked if they support it, else stock."""
    from kd.engines.fairseq.search import StackedSearch
    from kd.engines.fairseq.stock import StockSearch

    settings |= {"start": ensemble.frame.target_start, "prefix": ensemble.frame.target_first}
    stacked = engine != "stock" and _can_be_stacked(ensemble)
    if method is not None and not stacked:
        raise UserError(
            "These models need fairseq's own, slower decoder, which only does beam search.",
            "Set decode.method=beam.",
        )
    if method is not None and ensemble.frame.target_first:
        raise UserError("Only beam search can force a language token.", "Set decode.method=beam.")
    if isinstance(method, Sampling):
        return "stacked", SampledSearch(ensemble.models, ensemble.dictionary, sampling=method, **settings)
    if isinstance(method, Diversity):
        return "stacked", DiverseSearch(ensemble.models, ensemble.dictionary, diversity=method, **settings)
    if stacked:
        return "stacked", StackedSearch(ensemble.models, ensemble.dictionary, **settings)
    return "stock", StockSearch(ensemble.models, ensemble.dictionary, score_members=score_members, **settings)


def _can_be_stacked(ensemble: Ensemble) -> bool:
    from kd.engines.fairseq.stacked_weights import unsupported

    reasons = [reason for model in ensemble.models if (reason := unsupported(model))]
    if reasons:
        _LOG.warning("fairseq's own, slower decoder is used for a model, since %s.", reasons[0])
    return not reasons
