"""fairseq's own beam search, for models that `stacked.py` cannot compute; and scores of given translations.

Slower, and right for whatever model fairseq can translate with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.search import Found

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS = 32_000_000  # numbers of the output layer in memory at once when hypotheses are scored: 128 MB in float32


class StockSearch:
    """`fairseq.sequence_generator` behind the interface of `search.StackedSearch`; its members score in a second pass."""

    def __init__(
        self,
        models: Sequence[Any],
        dictionary: Any,
        *,
        beam: int,
        max_pieces: int,
        length_penalty: float,
        score_members: bool = True,
    ) -> None:
        from fairseq.sequence_generator import SequenceGenerator

        self._models = list(models)
        self._pad = dictionary.pad()
        self._scorer = ForcedScorer(models, dictionary, length_penalty=length_penalty) if score_members else None
        self._generator = SequenceGenerator(
            self._models,
            dictionary,
            beam_size=beam,
            max_len_a=0,  # it would multiply the length of the batch's longest source
            max_len_b=max_pieces,
            len_penalty=length_penalty,
        )

    def search(self, tokens: Tensor) -> list[list[Found]]:
        """The hypotheses of each source, the best first; `tokens` are sources padded on the left, ends included."""
        source = {"src_tokens": tokens, "src_lengths": tokens.ne(self._pad).sum(1)}
        found = self._generator.generate(self._models, {"net_input": source})
        flat = [each["tokens"].tolist() for hypotheses in found for each in hypotheses]
        rows = [row for row, hypotheses in enumerate(found) for _ in hypotheses]
        scores: list[list[float]] = [[] for _ in flat]
        if self._scorer is not None:
            scores = [members for _, members in self._scorer.score(tokens, rows, flat)]
        scored = iter(zip(flat, scores, strict=True))
        return [
            [Found(*(ids := next(scored))[:1], float(each["score"]), ids[1]) for each in hypotheses]
            for hypotheses in found
        ]


class ForcedScorer:
    """Scores translations that were made elsewhere, as the search would have scored them.

    The target shifted right is the decoder's input; at each position the members' probabilities are averaged.
    """

    def __init__(self, models: Sequence[Any], dictionary: Any, *, length_penalty: float) -> None:
        self._models = list(models)
        self._dictionary = dictionary
        self._length_penalty = length_penalty

    def score(
        self, tokens: Tensor, rows: Sequence[int], targets: Sequence[list[int]]
    ) -> list[tuple[float, list[float]]]:
        """Of each target (its end included), whose source is a row of `tokens`: the ensemble's score, and each member's."""
        import torch

        step = max(1, _LOGITS // (max(map(len, targets), default=1) * len(self._dictionary)))
        scores: list[tuple[float, list[float]]] = []
        with torch.inference_mode():
            source = {"src_tokens": tokens, "src_lengths": tokens.ne(self._dictionary.pad()).sum(1)}
            encoded = [model.encoder.forward_torchscript(source) for model in self._models]
            for start in range(0, len(targets), step):
                order = torch.tensor(rows[start : start + step], device=tokens.device)
                parts = [
                    model.encoder.reorder_encoder_out(out, order)
                    for model, out in zip(self._models, encoded, strict=True)
                ]
                scores += self._scores(parts, targets[start : start + step])
        return scores

    def _scores(self, encoded: list[Any], targets: Sequence[list[int]]) -> list[tuple[float, list[float]]]:
        import torch

        device = encoded[0]["encoder_out"][0].device
        pad, eos = self._dictionary.pad(), self._dictionary.eos()
        expected = padded(targets, pad, left=False).to(device)
        shifted = padded([[eos, *target[:-1]] for target in targets], pad, left=False).to(device)
        logs = []
        for model, out in zip(self._models, encoded, strict=True):
            logits = model.decoder(shifted, encoder_out=out)[0].float()
            logs.append(logits.gather(2, expected.unsqueeze(2)).squeeze(2) - torch.logsumexp(logits, dim=2))
        members = torch.stack(logs).double()
        ensemble = torch.logsumexp(members, 0) - torch.log(torch.tensor(float(len(logs)), dtype=torch.float64))
        every = torch.cat([ensemble.unsqueeze(0), members]).masked_fill(expected.eq(pad), 0.0).sum(2).t().tolist()
        lengths = [len(target) ** self._length_penalty for target in targets]
        return [
            (sums[0] / length, [each / length for each in sums[1:]]) for sums, length in zip(every, lengths, strict=True)
        ]


def padded(sentences: Sequence[list[int]], pad: int, *, left: bool) -> Tensor:
    """Sentences as a matrix; padding on the left of sources and on the right of targets, as in training."""
    import torch

    width = max(map(len, sentences))
    matrix = torch.full((len(sentences), width), pad, dtype=torch.long)
    for row, ids in enumerate(sentences):
        start = width - len(ids) if left else 0
        matrix[row, start : start + len(ids)] = torch.tensor(ids)
    return matrix
