"""Scores given translations with any model folder: the log-probability of each target, normalised by its length.

As in marian-scorer with `--normalize`: the sum over the tokens of the target and its end, divided by their number. Text
that is longer than in the model's training is cut, as with Marian's `--max-length-crop`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kd.base.errors import UserError
from kd.base.scratch import scratch_folder
from kd.engines.ctranslate2 import LONGEST, PieceScorer, computable
from kd.engines.ctranslate2 import load as load_ctranslate2
from kd.engines.nan import nan_scores
from kd.models.description import CTRANSLATE2, ENDPOINT, tag_for
from kd.models.files import DESCRIPTION, EXPORTED, WEIGHTS
from kd.models.folder import ModelFolder
from kd.models.integrity import check_hash
from kd.models.matching import load_processor

_CHUNK = 1000  # pairs scored at once by CTranslate2, which sorts and batches them


class ForcedModel(Protocol):
    """The interface of a loaded model that scores given translations."""

    def scores(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Return the mean natural log-probability of each target's tokens and its end; neither text is blank."""
        ...


def load(
    folder: Path,
    languages: tuple[str, str],
    *,
    batch_tokens: int,
    threads: int,
    device: str,
    compute_type: str = "float32",
    prefix: str = "",
) -> ForcedModel:
    """Load a model folder of kd, or the folder of a Hugging Face model, which is converted to a temporary folder.

    Args:
        folder: A trained or given model, an export, a released ensemble, or a Hugging Face model.
        languages: Source and target of the model.
        batch_tokens: Tokens per batch, padding included.
        threads: CPU threads.
        device: `cpu` or `cuda`.
        compute_type: Number format that a Hugging Face model is converted to.
        prefix: Text before each source of a Hugging Face model.

    Raises:
        UserError: The folder is missing or damaged, or its model cannot score, or does not translate these languages.
    """
    if is_hugging_face(folder):
        from kd.engines.converted import convert

        with scratch_folder("kd-forced-") as place:
            convert(folder, place, compute_type=compute_type, languages=languages, prefix=prefix)
            return _Converted(place, batch_tokens, threads, device)
    model = ModelFolder.open(folder)
    model.check()
    if model.engine == ENDPOINT:
        raise UserError(f"{folder} is behind a server, which does not score text.", "Give the folder of a model.")
    if model.tokenizer:
        return _Converted(folder, batch_tokens, threads, device)
    if model.engine == CTRANSLATE2:
        return _Exported(model, languages[1], batch_tokens, threads, device)
    return _Fairseq(model, languages, batch_tokens, threads, device)


def is_hugging_face(folder: Path) -> bool:
    """Return whether a folder holds a Hugging Face model rather than a model folder of kd."""
    return (folder / "config.json").is_file() and not any((folder / own).is_file() for own in (DESCRIPTION, WEIGHTS))


def _mean(columns: Sequence[Sequence[float]], compute_type: str) -> list[float]:
    means = [math.fsum(column) / len(column) for column in columns]
    if any(map(math.isnan, means)):
        raise nan_scores([], compute_type, one=True)
    return means


class _Fairseq:
    """Trained models, alone or as an ensemble, whose probabilities are averaged at each token."""

    def __init__(
        self, model: ModelFolder, languages: tuple[str, str], batch_tokens: int, threads: int, device: str
    ) -> None:
        from kd.engines.fairseq.language_tokens import Direction
        from kd.engines.fairseq.stock import ForcedScorer
        from kd.engines.fairseq.translate import Ensemble
        from kd.models.vocabulary import Vocabulary

        if model.segmentation:
            raise UserError(
                f"{model.path} segments text with BPE codes, which kd does not apply to given translations.",
                "Give a model with a sentencepiece vocabulary.",
            )
        folders = [member.path for member in model.all_members]
        self._vocabulary = Vocabulary(folders[0])
        direction = Direction(*languages)
        self._ensemble = Ensemble(
            folders, self._vocabulary, threads=threads, device=device, precision="fp32", direction=direction
        )
        frame, models = self._ensemble.frame, self._ensemble.models
        self._scorer = ForcedScorer(models, self._ensemble.dictionary, length_penalty=1.0, start=frame.target_start)
        self._tag = tag_for(model.languages, languages[1], model.path)
        self._longest_source = self._ensemble.limit_source(None)
        positions = min(each.max_decoder_positions() for each in models)
        self._longest_target = int(positions) - 1 - len(frame.target_first)
        self._batch_tokens = batch_tokens

    def scores(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        from kd.engines.fairseq.translate import batches, halving
        from kd.engines.hypotheses import Counts

        work = sorted(enumerate(self._encoded(sources, targets)), key=lambda item: -_longer(item))
        found = [0.0] * len(sources)
        for batch in batches(work, _longer, self._batch_tokens):
            for (place, _), score in zip(batch, halving(self._score, batch, Counts()), strict=True):
                found[place] = score
        return found

    def _encoded(self, sources: Sequence[str], targets: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return the ids of both sides of each pair, ends and language tokens included."""
        frame, vocabulary = self._ensemble.frame, self._vocabulary
        end = self._ensemble.dictionary.eos()
        return [
            (
                [*frame.source_first, *source[: self._longest_source], frame.source_end],
                [*frame.target_first, *vocabulary.ids_of(target)[: self._longest_target], end],
            )
            for source, target in zip(
                vocabulary.encode_ids(sources, self._tag), vocabulary.encode_pieces(targets), strict=True
            )
        ]

    def _score(self, batch: list[tuple[int, tuple[list[int], list[int]]]]) -> list[float]:
        tokens = self._ensemble.matrix([source for _, (source, _) in batch])
        lists = self._scorer.score(tokens, [[target] for _, (_, target) in batch])
        for (scored,) in lists:
            if nan := [member for member, score in enumerate(scored.member_scores) if math.isnan(score)]:
                raise self._ensemble.nan(nan)
        return [scored.score for (scored,) in lists]


def _longer(item: tuple[int, tuple[list[int], list[int]]]) -> int:
    return max(map(len, item[1]))


class _Exported:
    """A model that kd exported to CTranslate2."""

    def __init__(self, model: ModelFolder, to: str, batch_tokens: int, threads: int, device: str) -> None:
        for file in model.files:
            check_hash(file)
        description = model.description
        self._compute_type = computable(description["compute_type"], device)
        loaded = load_ctranslate2(
            model.path / EXPORTED, compute_type=self._compute_type, threads=threads, device=device
        )
        self._scorer = PieceScorer(loaded, batch_tokens=batch_tokens)
        self._pieces = load_processor(model.vocabulary)
        tag = tag_for(model.languages, to, model.path)
        self._start = [tag] if tag else []
        self._longest_source = int(description.get("max_source_pieces") or LONGEST)
        self._longest_target = int(description.get("max_target_pieces") or self._longest_source)

    def scores(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(sources), _CHUNK):
            one, other = (
                self._pieces.encode(list(side[start : start + _CHUNK]), out_type=str) for side in (sources, targets)
            )
            columns = self._scorer.log_probabilities(
                [[*self._start, *pieces][: self._longest_source] for pieces in one],
                [pieces[: self._longest_target] for pieces in other],
            )
            found += _mean(columns, self._compute_type)
        return found


class _Converted:
    """A model of Hugging Face, converted to CTranslate2."""

    def __init__(self, folder: Path, batch_tokens: int, threads: int, device: str) -> None:
        from kd.engines.converted import ConvertedTranslator

        self._model = ConvertedTranslator(folder, batch_tokens=batch_tokens, threads=threads, device=device)

    def scores(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(sources), _CHUNK):
            end = start + _CHUNK
            columns = self._model.log_probabilities(sources[start:end], targets[start:end])
            found += _mean(columns, self._model.compute_type)
        return found
