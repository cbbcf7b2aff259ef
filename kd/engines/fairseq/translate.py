"""Translates with one model or a true ensemble: beam search over the mean of the members' probabilities at each step.

It is fairseq's own search (`fairseq.sequence_generator`); what is added is the order of work, scores of each member,
and limits on lengths that do not depend on which sentences happen to share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.engines.fairseq.model import load_models
from kd.engines.vocabulary import Vocabulary
from kd.errors import UserError

Progress = Callable[[int, int], None]  # sentences done, sentences in all

_LOGITS = 32_000_000  # numbers of the output layer in memory at once when hypotheses are scored: 128 MB in float32


@dataclass(frozen=True)
class Hypothesis:
    """One translation. Scores are natural logarithms, divided by (pieces + 1) to the power of the length penalty."""

    text: str
    pieces: list[str]  # what the model wrote, without the end of sentence; encoding `text` again may give others
    score: float  # of the ensemble
    member_scores: list[float]  # of each member alone, for the same pieces; empty where they were not asked for


@dataclass(frozen=True)
class _Source:
    number: int  # position in the input
    ids: list[int]  # end of sentence included


class EnsembleTranslator:
    """Models of one vocabulary, loaded once, that translate any number of sentences.

    `max_pieces` is the longest output; the same limit holds for every sentence. Sources of more than
    `max_source_pieces` (what the models were trained on, when None) are cut there and counted in `cut`. Blank sources
    are not decoded: they give one empty hypothesis with the score 0. `batch_tokens` is the number of source pieces in a
    batch, padding included.
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
    ) -> None:
        import torch

        if nbest > beam:
            raise UserError(
                f"nbest is {nbest}, and a beam of {beam} finds no more than {beam}.", "Set beam to nbest or more."
            )
        torch.set_num_threads(threads)
        self.cut = 0
        self._models, self._dictionary = load_models(model_folders, device)
        if len(self._dictionary) != vocabulary.size:
            raise UserError(
                f"The models have {len(self._dictionary)} pieces and the vocabulary {vocabulary.size}.",
                "Use the vocabulary that the models were trained with.",
            )
        if precision != "fp32":
            self._models = [
                model.to({"fp16": torch.float16, "bf16": torch.bfloat16}[precision]) for model in self._models
            ]
        self._vocabulary = vocabulary
        self._device = device
        self._nbest = nbest
        self._batch_tokens = batch_tokens
        self._length_penalty = length_penalty
        self._score_members = score_members
        self._max_source = max_source_pieces or min(model.max_positions()[0] for model in self._models) - 1
        self._generator = self._search(beam, max_pieces)

    def _search(self, beam: int, max_pieces: int) -> Any:
        from fairseq.sequence_generator import SequenceGenerator

        return SequenceGenerator(
            self._models,
            self._dictionary,
            beam_size=beam,
            max_len_a=0,  # it would multiply the length of the batch's longest source
            max_len_b=max_pieces,
            len_penalty=self._length_penalty,
        )

    def translate(self, sources: Sequence[str], progress: Progress | None = None) -> list[list[Hypothesis]]:
        """The n-best list of each source, in the order given, the best first.

        A list is shorter than `nbest` where the search ended with fewer.
        """
        results: list[list[Hypothesis]] = [[] for _ in sources]
        pending = []
        for number, (text, ids) in enumerate(zip(sources, self._vocabulary.encode_ids(sources), strict=True)):
            if not ids or not text.strip():
                results[number] = [Hypothesis("", [], 0.0, [0.0] * len(self._models) if self._score_members else [])]
            else:
                self.cut += len(ids) > self._max_source
                pending.append(_Source(number, [*ids[: self._max_source], self._dictionary.eos()]))
        done = len(sources) - len(pending)
        for batch in self._batches(pending):
            for source, hypotheses in zip(batch, self._decode(batch), strict=True):
                results[source.number] = hypotheses
            done += len(batch)
            if progress:
                progress(done, len(sources))
        return results

    def _batches(self, sources: list[_Source]) -> Iterator[list[_Source]]:
        """Sources of like length together; the longest first, so that what does not fit into memory shows at once."""
        ordered = sorted(sources, key=lambda source: -len(source.ids))
        while ordered:
            size = max(1, self._batch_tokens // len(ordered[0].ids))
            yield ordered[:size]
            ordered = ordered[size:]

    def _decode(self, batch: list[_Source]) -> list[list[Hypothesis]]:
        """A batch; halved and tried again where the GPU's memory does not hold it."""
        import torch

        try:
            return self._decode_at_once(batch)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise UserError(
                    "A single sentence does not fit into the GPU's memory.",
                    "Set decode.beam or decode.max_pieces lower.",
                ) from None
        torch.cuda.empty_cache()
        middle = len(batch) // 2
        return self._decode(batch[:middle]) + self._decode(batch[middle:])

    def _decode_at_once(self, batch: list[_Source]) -> list[list[Hypothesis]]:
        import torch

        tokens = self._padded([source.ids for source in batch], left=True)
        lengths = torch.tensor([len(source.ids) for source in batch], device=self._device)
        net_input = {"src_tokens": tokens, "src_lengths": lengths}
        found = self._generator.generate(self._models, {"net_input": net_input})
        best = [hypotheses[: self._nbest] for hypotheses in found]
        flat = [each["tokens"].tolist() for hypotheses in best for each in hypotheses]
        rows = [row for row, hypotheses in enumerate(best) for _ in hypotheses]
        members = self._scores_of_members(net_input, rows, flat) if self._score_members else [[] for _ in flat]
        scored = iter(zip(flat, members, strict=True))
        return [[self._hypothesis(float(each["score"]), *next(scored)) for each in hypotheses] for hypotheses in best]

    def _hypothesis(self, score: float, ids: list[int], member_scores: list[float]) -> Hypothesis:
        pieces = self._vocabulary.pieces_of(ids[:-1])
        return Hypothesis(self._vocabulary.decode_pieces(pieces), pieces, score, member_scores)

    def _padded(self, sentences: list[list[int]], *, left: bool) -> Any:
        """Sentences as a matrix; padding on the left of sources and on the right of targets, as in training."""
        import torch

        width = max(map(len, sentences))
        matrix = torch.full((len(sentences), width), self._dictionary.pad(), dtype=torch.long)
        for row, ids in enumerate(sentences):
            start = width - len(ids) if left else 0
            matrix[row, start : start + len(ids)] = torch.tensor(ids)
        return matrix.to(self._device)

    def _scores_of_members(
        self, net_input: dict[str, Any], rows: list[int], targets: list[list[int]]
    ) -> list[list[float]]:
        """Each member's score of each target (end of sentence included), whose source is a row of the batch."""
        import torch

        scores: list[list[float]] = [[] for _ in targets]
        longest = max(map(len, targets))
        step = max(1, _LOGITS // (longest * len(self._dictionary)))
        with torch.no_grad():
            for model in self._models:
                encoded = model.encoder.forward_torchscript(net_input)
                for start in range(0, len(targets), step):
                    part = slice(start, start + step)
                    order = torch.tensor(rows[part], device=self._device)
                    sums = self._log_probability(
                        model, model.encoder.reorder_encoder_out(encoded, order), targets[part]
                    )
                    for number, total in enumerate(sums, start):
                        scores[number].append(total / len(targets[number]) ** self._length_penalty)
        return scores

    def _log_probability(self, model: Any, encoded: Any, targets: list[list[int]]) -> list[float]:
        """Natural log-probability of each target, teacher-forced: the target shifted right is the decoder's input."""
        import torch

        expected = self._padded(targets, left=False)
        shifted = self._padded([[self._dictionary.eos(), *target[:-1]] for target in targets], left=False)
        logits = model.decoder(shifted, encoder_out=encoded)[0].float()
        chosen = logits.gather(2, expected.unsqueeze(2)).squeeze(2) - torch.logsumexp(logits, dim=2)
        return chosen.masked_fill(expected.eq(self._dictionary.pad()), 0.0).sum(dim=1, dtype=torch.float64).tolist()
