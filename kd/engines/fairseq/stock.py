"""fairseq's own beam search and scorer, for models that `stacked.py` does not support. Slower, for any Transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.search import Found, NaNFound

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS = 32_000_000  # numbers of the output layer in memory at once when hypotheses are scored: 128 MB in float32


class StockSearch:
    """`fairseq.sequence_generator` with the interface of `search.StackedSearch`; members score in a second pass."""

    def __init__(
        self,
        models: Sequence[Any],
        dictionary: Any,
        *,
        beam: int,
        max_pieces: int,
        length_penalty: float,
        score_members: bool = True,
        start: int | None = None,
        prefix: Sequence[int] = (),
        banned: Sequence[int] = (),
    ) -> None:
        from fairseq.sequence_generator import SequenceGenerator

        self._models = list(models)
        self._pad, self._eos = dictionary.pad(), dictionary.eos()
        self._start = self._eos if start is None else start
        self._prefix = prefix
        scorer = ForcedScorer(models, dictionary, length_penalty=length_penalty, start=start)
        self._scorer = scorer if score_members else None
        self._generator = SequenceGenerator(
            self._models,
            dictionary,
            beam_size=beam,
            max_len_a=0,  # it would multiply the length of the batch's longest source
            max_len_b=max_pieces,
            len_penalty=length_penalty,
            # fairseq suppresses `<unk>` by a penalty only.
            tokens_to_suppress=[dictionary[number] for number in banned if number != dictionary.unk()],
            unk_penalty=math.inf if dictionary.unk() in banned else 0.0,
        )

    def search(self, tokens: Tensor) -> list[list[Found]]:
        """Return the hypotheses of each source, the best first.

        Args:
            tokens: Sources padded on the left, ends included, [sentences, length].

        Raises:
            NaNFound: A member computed NaN, so fairseq's search returned no hypothesis.
        """
        source = {"src_tokens": tokens, "src_lengths": tokens.ne(self._pad).sum(1)}
        prefix = tokens.new_tensor(self._prefix).expand(len(tokens), -1) if self._prefix else None
        try:
            lists = self._generator.generate(
                self._models, {"net_input": source}, prefix_tokens=prefix, bos_token=self._start
            )
        except AssertionError:  # the search found no end of a sentence, as with NaN
            if nan := self._nan_members(source):
                raise NaNFound(nan) from None
            raise
        if not all(found and all(math.isfinite(float(each["score"])) for each in found) for found in lists):
            raise NaNFound(self._nan_members(source))
        ids = [[each["tokens"].tolist() for each in found] for found in lists]
        scores = [[float(each["score"]) for each in found] for found in lists]
        members: list[list[list[float]]] = [[[] for _ in found] for found in lists]
        if self._scorer is not None:
            members = [[each.member_scores for each in found] for found in self._scorer.score(tokens, ids)]
        return [
            [Found(*each) for each in zip(*columns, strict=True)] for columns in zip(ids, scores, members, strict=True)
        ]

    def _nan_members(self, source: dict[str, Tensor]) -> list[int]:
        """Return the members that compute NaN for the first token."""
        import torch

        tokens = source["src_tokens"]
        start = tokens.new_full((len(tokens), 1), self._start)
        with torch.no_grad():
            found = [model(prev_output_tokens=start, **source)[0] for model in self._models]
        return [number for number, logits in enumerate(found) if not torch.isfinite(logits).all()]


@dataclass(frozen=True)
class Scored:
    """Scores: natural logarithms, divided by the number of pieces, end included, to the power of the length penalty."""

    score: float  # of the ensemble: at each piece the mean of the members' probabilities
    member_scores: list[float]


class ForcedScorer:
    """Score given translations: the decoder reads the target shifted right; probabilities are averaged."""

    def __init__(
        self, models: Sequence[Any], dictionary: Any, *, length_penalty: float, start: int | None = None
    ) -> None:
        self._start = dictionary.eos() if start is None else start
        self._models = list(models)
        self._pad, self._eos, self._size = dictionary.pad(), dictionary.eos(), len(dictionary)
        self._length_penalty = length_penalty

    def score(self, tokens: Tensor, targets: Sequence[Sequence[list[int]]]) -> list[list[Scored]]:
        """Return the scores of each source's targets, ends included; `tokens` are sources padded on the left."""
        import torch

        flat = [(row, target) for row, each in enumerate(targets) for target in each]
        step = max(1, _LOGITS // (max((len(target) for _, target in flat), default=1) * self._size))
        scored: list[Scored] = []
        with torch.no_grad():
            source = {"src_tokens": tokens, "src_lengths": tokens.ne(self._pad).sum(1)}
            encoded = [model.encoder.forward_torchscript(source) for model in self._models]
            for start in range(0, len(flat), step):
                rows, part = zip(*flat[start : start + step], strict=True)
                order = torch.tensor(rows, device=tokens.device)
                outs = [
                    model.encoder.reorder_encoder_out(out, order)
                    for model, out in zip(self._models, encoded, strict=True)
                ]
                scored += self._scores(outs, part, tokens.device)
        rest = iter(scored)
        return [[next(rest) for _ in each] for each in targets]

    def _scores(self, encoded: list[Any], targets: Sequence[list[int]], device: Any) -> list[Scored]:
        import torch

        expected = padded(targets, self._pad, left=False).to(device)
        shifted = padded([[self._start, *target[:-1]] for target in targets], self._pad, left=False).to(device)
        logs = []
        for model, out in zip(self._models, encoded, strict=True):
            logits = model.decoder(shifted, encoder_out=out)[0].float()
            logs.append(logits.gather(2, expected.unsqueeze(2)).squeeze(2) - torch.logsumexp(logits, dim=2))
        members = torch.stack(logs).double()
        mean = torch.logsumexp(members, 0, keepdim=True) - math.log(len(logs))
        sums = torch.cat([mean, members]).masked_fill(expected.eq(self._pad), 0.0).sum(2).t().tolist()
        lengths = [len(target) ** self._length_penalty for target in targets]
        return [
            Scored(each[0] / length, [value / length for value in each[1:]])
            for each, length in zip(sums, lengths, strict=True)
        ]


def padded(sentences: Sequence[list[int]], pad: int, *, left: bool) -> Tensor:
    """Return sentences as a matrix, padded on the left (sources) or on the right (targets), as in training."""
    import torch

    width = max(map(len, sentences))
    matrix = torch.full((len(sentences), width), pad, dtype=torch.long)
    for row, ids in enumerate(sentences):
        start = width - len(ids) if left else 0
        matrix[row, start : start + len(ids)] = torch.tensor(ids)
    return matrix
