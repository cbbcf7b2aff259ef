"""Decode with each member of an ensemble by CTranslate2, and score all hypotheses with all members.

CTranslate2 has no ensembles, so each member searches alone; hypotheses that only the joint search finds are missing.
Scores are those of the true ensemble (`kd/engines/fairseq/translate.py`), for the same tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.engines.ctranslate2 import PieceScorer, PieceTranslator, convert, load
from kd.engines.fairseq.translate import Ensemble, Preparation, Source
from kd.engines.hypotheses import Counts, Hypothesis, Progress, without_broken
from kd.engines.nan import NaNScores, nan_scores
from kd.models.folder import ModelFolder
from kd.models.vocabulary import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 1000  # sentences decoded at once; CTranslate2 sorts and batches them
_SCORING = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_SCORING_TOKENS = 1000  # of a batch on a CPU: the output layer of larger batches does not fit into caches
_PROBE = 8  # tokens
_ALIKE = 0.2  # largest difference of a log-probability that half precision may cause


class MembersTranslator:
    """Models of one vocabulary, loaded once. It prepares sources as `EnsembleTranslator` does.

    Each member returns the `member_nbest` best hypotheses (None: `nbest`) of a beam of `beam`. Of all distinct
    hypotheses, the `nbest` with the highest ensemble score are kept. `compute_type` is CTranslate2's number format for
    the search; scores are computed in `precision`.

    Raises:
        UserError: CTranslate2 does not support a model.
    """

    def __init__(
        self,
        model_folders: Sequence[Path],
        vocabulary: Vocabulary,
        *,
        beam: int,
        nbest: int = 1,
        member_nbest: int | None = None,
        max_pieces: int,
        length_penalty: float = 1.0,
        batch_tokens: int = 4000,
        threads: int = 1,
        device: str = "cpu",
        precision: str = "fp32",
        compute_type: str = "float32",
        max_source_pieces: int | None = None,
        skip_long: bool = False,
        tag: str | None = None,
        disable_unk: bool = True,
    ) -> None:
        member_nbest = member_nbest or nbest
        if max(nbest, member_nbest) > beam:
            raise UserError(
                f"member_nbest is {member_nbest} but beam is {beam}.",
                "Set beam to nbest and to member_nbest or more.",
            )
        # On the CPU, for the limits of the models and to compare their scores with CTranslate2's; freed afterwards.
        ensemble = Ensemble(model_folders, vocabulary, threads=threads, device="cpu", precision="fp32")
        self._counts = Counts()
        self.members = len(model_folders)
        self.max_pieces = ensemble.limit_output(max_pieces)
        self.max_source_pieces = ensemble.limit_source(max_source_pieces)
        self._prepare = Preparation(
            vocabulary, self.max_source_pieces, self._counts, self.members, skip=skip_long, tag=tag
        )
        self._vocabulary = vocabulary
        self._nbest = nbest
        self._disable_unk = disable_unk
        self._length_penalty = length_penalty
        self._precision = precision
        self._translators: list[PieceTranslator] = []
        self._scorers: list[PieceScorer] = []
        scoring_tokens = batch_tokens if device != "cpu" else min(batch_tokens, _SCORING_TOKENS)
        with scratch_folder("kd-members-") as folder:
            for number, model_folder in enumerate(model_folders):
                place = folder / str(number)
                try:
                    convert(ModelFolder.open(model_folder), place, "float32")
                except NaNScores:
                    one = len(model_folders) == 1
                    raise nan_scores([number], precision, weights=[number], one=one) from None
                # Loaded once if search and scores use the same type.
                models = {
                    kind: load(place, compute_type=kind, threads=threads, device=device)
                    for kind in {compute_type, _SCORING[precision]}
                }
                self._translators.append(
                    PieceTranslator(
                        models[compute_type],
                        beam=beam,
                        nbest=member_nbest,
                        max_pieces=self.max_pieces,
                        length_penalty=length_penalty,
                        batch_tokens=batch_tokens,
                        disable_unk=disable_unk,
                    )
                )
                self._scorers.append(PieceScorer(models[_SCORING[precision]], batch_tokens=scoring_tokens))
        _require_alike(ensemble, vocabulary, self._scorers)

    @property
    def counts(self) -> Counts:
        """Counts of sources that were blank, cut or skipped, and of halved batches, over all calls."""
        halved = [each.halved for each in self._translators] + [each.halved for each in self._scorers]
        self._counts.halved = sum(halved)
        return self._counts

    def translate(self, sources: Sequence[str], progress: Progress | None = None) -> list[list[Hypothesis]]:
        """Return the n-best list of each source, in order, the best hypothesis first."""
        prepared = self._prepare(sources)
        lists = prepared.lists
        ordered = sorted(prepared.pending, key=lambda source: -len(source.ids))
        for start in range(0, len(ordered), _CHUNK):
            chunk = ordered[start : start + _CHUNK]
            for source, hypotheses in zip(chunk, self._decode(chunk), strict=True):
                lists[source.number] = hypotheses
            if progress:
                progress(len(sources) - len(ordered) + start + len(chunk), len(sources))
        return [lists[number] for number in range(len(sources))]

    def _decode(self, chunk: list[Source]) -> list[list[Hypothesis]]:
        """Return the distinct hypotheses of all members, ranked by the ensemble."""
        pieces = [self._vocabulary.source_pieces_of(source.ids[:-1]) for source in chunk]
        found: list[dict[tuple[str, ...], None]] = [{} for _ in chunk]
        for translator in self._translators:
            for distinct, hypotheses in zip(found, translator.nbest(pieces), strict=True):
                distinct.update(dict.fromkeys(map(tuple, hypotheses)))
        written = [list(each) for distinct in found for each in distinct]
        scores = self._scores(
            [source for source, distinct in zip(pieces, found, strict=True) for _ in distinct], written
        )
        lists, start = [], 0
        for distinct in found:
            end = start + len(distinct)
            # Ties are broken by the order of members, then of their hypotheses.
            best = start + np.argsort(-scores[0, start:end], kind="stable")
            found_here = [self._hypothesis(written[row], scores[:, row].tolist()) for row in best]
            lists.append((without_broken(found_here) if self._disable_unk else found_here)[: self._nbest])
            self._counts.limited += sum(len(each.pieces) >= self.max_pieces for each in lists[-1])
            start = end
        return lists

    def _scores(self, sources: list[list[str]], targets: list[list[str]]) -> NDArray[np.float64]:
        """Return the scores of each target by the ensemble and by each member, [1 + members, targets].

        At each piece the members' probabilities are averaged and the logarithm is taken; these are summed, the end
        included, and divided by their number to the power of the length penalty.
        """
        lengths = np.fromiter(map(len, targets), dtype=np.int64, count=len(targets)) + 1
        members = np.empty((self.members, int(lengths.sum())))
        for row, scorer in zip(members, self._scorers, strict=True):
            row[:] = np.fromiter(chain.from_iterable(scorer.log_probabilities(sources, targets)), dtype=np.float64)
        if nan := np.flatnonzero(np.isnan(members).any(axis=1)).tolist():
            raise nan_scores(nan, self._precision, one=self.members == 1)
        mean = np.logaddexp.reduce(members, axis=0) - np.log(self.members)
        sums = np.add.reduceat(np.vstack([mean, members]), np.cumsum(lengths) - lengths, axis=1)
        scores: NDArray[np.float64] = sums / lengths**self._length_penalty
        return scores

    def _hypothesis(self, pieces: list[str], scores: list[float]) -> Hypothesis:
        return Hypothesis(self._vocabulary.decode_pieces(pieces), pieces, scores[0], scores[1:])


def _require_alike(ensemble: Ensemble, vocabulary: Vocabulary, scorers: Sequence[PieceScorer]) -> None:
    """Check that fairseq and CTranslate2 give the same tokens the same scores.

    CTranslate2's converter does not check all of fairseq's settings, and silently drops parts that it does not support.
    """
    from kd.engines.fairseq.stock import ForcedScorer

    end = SPECIAL.index("</s>")
    ids = list(range(len(SPECIAL), min(len(SPECIAL) + _PROBE, vocabulary.size)))
    source, target = vocabulary.source_pieces_of(ids), vocabulary.pieces_of(ids)
    [[expected]] = ForcedScorer(ensemble.models, ensemble.dictionary, length_penalty=1.0).score(
        ensemble.matrix([[*ids, end]]), [[[*ids, end]]]
    )
    if nan := [number for number, score in enumerate(expected.member_scores) if math.isnan(score)]:
        raise ensemble.nan(nan)
    for number, (scorer, score) in enumerate(zip(scorers, expected.member_scores, strict=True), 1):
        [found] = scorer.log_probabilities([source], [target])
        if not abs(sum(found) / len(found) - score) <= _ALIKE:
            raise UserError(
                f"CTranslate2 does not support member {number}: its scores differ from fairseq's.",
                "Set decode.engine to ensemble.",
            )
