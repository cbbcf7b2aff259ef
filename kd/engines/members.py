"""An ensemble by its members: CTranslate2 decodes with each alone, and all of them judge what any of them wrote.

CTranslate2 has no ensembles. Hypotheses are searched for by one member at a time, so what only the average would have
found is missing; scores are those of the true ensemble (`kd/engines/fairseq/translate.py`), for the same pieces.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from kd.engines.ctranslate2 import PieceTranslator, convert
from kd.engines.fairseq.model import DICTIONARY, MODEL
from kd.engines.fairseq.translate import Counts, Ensemble, EnsembleScorer, Hypothesis, Preparation, Progress, Source
from kd.engines.vocabulary import Vocabulary
from kd.errors import UserError

_CHUNK = 2000  # sentences that the members get at once; they batch them by themselves


class MembersTranslator:
    """Models of one vocabulary, loaded once; what it does with sources is what `EnsembleTranslator` does.

    Each member gives its `member_nbest` best (as many as `nbest`, when None) of a beam of `beam`; of the distinct ones
    of them all, the `nbest` that the ensemble likes most are kept. `compute_type` is CTranslate2's, of the search
    alone: scores come from the models as they were trained.
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
    ) -> None:
        self._member_nbest = member_nbest or nbest
        if max(nbest, self._member_nbest) > beam:
            raise UserError(
                f"The list of a member has {self._member_nbest} hypotheses, and its beam is {beam}.",
                "Set beam to nbest and to member_nbest or more.",
            )
        ensemble = Ensemble(model_folders, vocabulary, threads=threads, device=device, precision=precision)
        self.counts = Counts()
        self.members = len(model_folders)
        self.max_pieces = ensemble.limit_output(max_pieces)
        self.max_source_pieces = ensemble.limit_source(max_source_pieces)
        self._prepare = Preparation(ensemble, self.max_source_pieces, self.counts, self.members, skip=skip_long)
        self._scorer = EnsembleScorer(
            ensemble, length_penalty=length_penalty, batch_tokens=batch_tokens, counts=self.counts
        )
        self._vocabulary = vocabulary
        self._nbest = nbest
        with tempfile.TemporaryDirectory(prefix="kd-members-") as folder:
            self._members = []
            for number, model in enumerate(model_folders):
                place = Path(folder) / str(number)
                convert(model / MODEL, model / DICTIONARY, place, compute_type)
                self._members.append(
                    PieceTranslator(
                        place,
                        compute_type=compute_type,
                        threads=threads,
                        device=device,
                        beam=beam,
                        nbest=self._member_nbest,
                        max_pieces=self.max_pieces,
                        length_penalty=length_penalty,
                        batch_tokens=batch_tokens,
                    )
                )

    def translate(self, sources: Sequence[str], progress: Progress | None = None) -> list[list[Hypothesis]]:
        """The n-best list of each source, in the order given, the best first."""
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
        """What any of the members wrote, ranked by the ensemble."""
        pieces = [self._vocabulary.pieces_of(source.ids[:-1]) for source in chunk]
        found: list[dict[tuple[str, ...], None]] = [{} for _ in chunk]
        for member in self._members:
            for distinct, hypotheses in zip(found, member.nbest(pieces), strict=True):
                distinct.update(dict.fromkeys(map(tuple, hypotheses)))
        written = [[list(each) for each in distinct] for distinct in found]
        scored = self._scorer.score(chunk, written)
        return [sorted(hypotheses, key=lambda each: -each.score)[: self._nbest] for hypotheses in scored]
