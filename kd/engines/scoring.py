"""Score given translations with any model that can: the mean log-probability of a translation's tokens and its end.

As in marian-scorer with `--normalize`. The text is split into tokens as the model's own training text was, which may
differ from the tokens of a search. Of a text that is longer than a model allows, the beginning is scored, as with
Marian's `--max-length-crop`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.engines.converted import ConvertedTranslator, convert, is_hugging_face, require_one
from kd.engines.ctranslate2 import LONGEST, PieceScorer, computable
from kd.engines.ctranslate2 import load as load_ctranslate2
from kd.engines.hypotheses import Counts
from kd.engines.nan import nan_scores
from kd.models.description import CTRANSLATE2, ENDPOINT, tag_for
from kd.models.files import EXPORTED
from kd.models.folder import ModelFolder
from kd.models.integrity import check_hash
from kd.models.matching import load_processor

_CHUNK = 1000  # pairs scored at once by CTranslate2, which sorts and batches them


class Scorer(Protocol):
    """Loaded models that score translations."""

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the score of each target of each source.

        A score is the sum of the natural logarithms of the probabilities of the target's tokens and its end, divided by
        their number. Those of a blank source, or one without tokens, are `Scoring.blank`.

        Raises:
            NaNScores: A model computed NaN.
        """
        ...


@dataclass(frozen=True)
class Scoring:
    """Settings of scoring.

    Attributes:
        languages: Source and target.
        batch_tokens: Tokens per batch, padding included.
        threads: CPU threads.
        device: `cpu` or `cuda`.
        max_pieces: Longest target, in tokens; None: the longest of the model's training.
        precision: fp32, fp16 or bf16, for models of fairseq.
        compute_type: Number format that a Hugging Face model is converted to.
        prefix: Text before each source of a Hugging Face model.
        choose: Whether a multilingual model of fairseq must translate between `languages`, not between those that its
            checkpoint names.
        blank: Score of all targets of a source without text.
    """

    languages: tuple[str, str]
    batch_tokens: int
    threads: int
    device: str
    max_pieces: int | None = None
    precision: str = "fp32"
    compute_type: str = "float32"
    prefix: str = ""
    choose: bool = False
    blank: float = 0.0


def load_scorer(folders: Sequence[Path], scoring: Scoring) -> Scorer:
    """Load one model of any kind, or an ensemble of fairseq's models.

    Args:
        folders: Trained or given models, or one folder: a model, an export, a released ensemble, or a Hugging Face
            model, which is converted to a temporary folder.
        scoring: The settings.

    Raises:
        UserError: A folder is missing or damaged, the models do not belong together, or a model cannot score or does
            not translate these languages.
    """
    if is_hugging_face(folders[0]):
        with scratch_folder("kd-scoring-") as place:
            convert(
                require_one(folders),
                place,
                compute_type=scoring.compute_type,
                languages=scoring.languages,
                prefix=scoring.prefix,
            )
            return _load_converted([place], scoring)
    models = [ModelFolder.open(folder) for folder in folders]
    for model in models:
        model.check()
        if model.engine == ENDPOINT:
            raise UserError(
                f"{model.path} is behind a server, which does not score text.", "Give the folder of a model."
            )
    if models[0].tokenizer:
        return _load_converted(folders, scoring)
    if models[0].engine == CTRANSLATE2:
        return _load_exported(folders, scoring)
    return _EnsembleScorer(models, scoring)


# --- fairseq ---------------------------------------------------------------------------------------------------------


class _EnsembleScorer:
    """Trained models, alone or as an ensemble: at each token the members' probabilities are averaged."""

    def __init__(self, models: Sequence[ModelFolder], scoring: Scoring) -> None:
        from kd.engines.fairseq.language_tokens import Direction
        from kd.engines.fairseq.stock import ForcedScorer
        from kd.engines.fairseq.translate import Ensemble, Preparation
        from kd.models.vocabulary import Vocabulary

        folders = [member.path for model in models for member in model.all_members]
        self._vocabulary = Vocabulary(folders[0])
        self._counts = Counts()
        self._ensemble = ensemble = Ensemble(
            folders,
            self._vocabulary,
            threads=scoring.threads,
            device=scoring.device,
            precision=scoring.precision,
            direction=Direction(*scoring.languages) if scoring.choose else Direction(),
        )
        tag = tag_for(models[0].languages, scoring.languages[1], models[0].path)
        self._prepare = Preparation(
            self._vocabulary, ensemble.limit_source(None), self._counts, 0, skip=False, tag=tag, frame=ensemble.frame
        )
        longest = scoring.max_pieces
        self._longest = ensemble.longest_output if longest is None else ensemble.limit_output(longest)
        self._batch_tokens, self._blank = scoring.batch_tokens, scoring.blank
        self._scorer = ForcedScorer(
            ensemble.models, ensemble.dictionary, length_penalty=1.0, start=ensemble.frame.target_start
        )

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        from kd.engines.fairseq.decoding_batches import batches, halving

        scores = [[self._blank] * len(each) for each in targets]
        work = [(each.number, each.ids, self._ids(targets[each.number])) for each in self._prepare(sources).pending]
        work = sorted((each for each in work if each[2]), key=lambda item: -_longest(item))
        for batch in batches(work, _longest, self._batch_tokens):
            for (number, *_), found in zip(batch, halving(self._score, batch, self._counts), strict=True):
                scores[number] = found
        return scores

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        frame, end = self._ensemble.frame, self._ensemble.dictionary.eos()
        return [[*frame.target_first, *ids[: self._longest], end] for ids in self._vocabulary.encode_targets(texts)]

    def _score(self, batch: list[_Item]) -> list[list[float]]:
        """Return the scores of a batch; each source is encoded once for all its targets."""
        found = self._scorer.score(self._ensemble.matrix([ids for _, ids, _ in batch]), [item[2] for item in batch])
        for each in (scored for row in found for scored in row):
            if nan := [member for member, score in enumerate(each.member_scores) if math.isnan(score)]:
                raise self._ensemble.nan(nan)
        return [[each.score for each in row] for row in found]


_Item = tuple[int, list[int], list[list[int]]]  # number of a source, its ids and those of its targets, ends included


def _longest(item: _Item) -> int:
    _, source, targets = item
    return max(map(len, (source, *targets)))


# --- CTranslate2 -----------------------------------------------------------------------------------------------------


_LogProbabilities = Callable[[Sequence[str], Sequence[str]], list[list[float]]]


class _PairScorer:
    """A model of CTranslate2, which encodes a source for each of its targets again.

    Args:
        log_probabilities: Returns the log-probabilities of each target's tokens and its end, given its source; none of
            them if the source has no tokens.
        compute_type: The number format of the model, for messages.
        blank: Score of the targets of a source without text.
    """

    def __init__(self, log_probabilities: _LogProbabilities, compute_type: str, blank: float) -> None:
        self._log_probabilities, self._compute_type, self._blank = log_probabilities, compute_type, blank

    def score(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> list[list[float]]:
        scores = [[self._blank] * len(each) for each in targets]
        places = [(number, place) for number, each in enumerate(targets) if sources[number].strip()
                  for place in range(len(each))]  # fmt: skip
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            columns = self._log_probabilities(
                [sources[number] for number, _ in chunk], [targets[number][place] for number, place in chunk]
            )
            for (number, place), column in zip(chunk, columns, strict=True):
                if column:
                    scores[number][place] = math.fsum(column) / len(column)
        if any(math.isnan(score) for each in scores for score in each):
            raise nan_scores([], self._compute_type, one=True)
        return scores


def _load_converted(folders: Sequence[Path], scoring: Scoring) -> Scorer:
    """Load a model of Hugging Face that was converted to CTranslate2."""
    model = ConvertedTranslator(
        require_one(folders), batch_tokens=scoring.batch_tokens, threads=scoring.threads, device=scoring.device
    )

    def log_probabilities(sources: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
        return model.log_probabilities(sources, targets, scoring.max_pieces)

    return _PairScorer(log_probabilities, model.compute_type, scoring.blank)


def _load_exported(folders: Sequence[Path], scoring: Scoring) -> Scorer:
    """Load a model that kd exported to CTranslate2."""
    model = ModelFolder.open(require_one(folders))
    for file in model.files:
        check_hash(file)
    compute_type = computable(model.description["compute_type"], scoring.device)
    loaded = load_ctranslate2(
        model.path / EXPORTED, compute_type=compute_type, threads=scoring.threads, device=scoring.device
    )
    scorer = PieceScorer(loaded, batch_tokens=scoring.batch_tokens)
    vocabulary = load_processor(model.vocabulary)
    tag = tag_for(model.languages, scoring.languages[1], model.path)
    start = [tag] if tag else []
    longest_source = int(model.description.get("max_source_pieces") or LONGEST)
    longest_target = int(model.description.get("max_target_pieces") or longest_source)
    limit = min(longest_target, scoring.max_pieces or longest_target)

    def log_probabilities(sources: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
        one, other = (vocabulary.encode(list(texts), out_type=str) for texts in (sources, targets))
        found = scorer.log_probabilities(
            [[*start, *pieces][:longest_source] for pieces in one], [pieces[:limit] for pieces in other]
        )
        return [each if pieces else [] for each, pieces in zip(found, one, strict=True)]

    return _PairScorer(log_probabilities, compute_type, scoring.blank)
