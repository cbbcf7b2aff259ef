"""Beam search over an ensemble: each step ranks candidates by the mean of the members' probabilities.

The search equals that of fairseq's `SequenceGenerator`; tests compare the two. Each step considers twice as many
candidates as the beam is wide: finished ones are set aside and the best of the others continue, until a sentence has as
many finished hypotheses as the beam is wide. It does less work than fairseq: `stacked.py` describes attention; here,
probabilities are averaged instead of their logarithms, and logarithms are computed only for the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.stacked import Outputs, State, stacks_of

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 64  # tokens whose maximum is compared first
_WASTE = 0.1  # share of a batch's sentences that may be done before they are removed from it


@dataclass(frozen=True)
class Found:
    """A hypothesis: its ids with the end of sentence, and its scores, normalised by length."""

    ids: list[int]
    score: float
    member_scores: list[float]


class NaNFound(Exception):
    """Some members computed NaN. `members`: their numbers, from 0; empty if unknown."""

    def __init__(self, members: list[int]) -> None:
        super().__init__(f"NaN from members {members}")
        self.members = members


class StackedSearch:
    """Beam search with models of one dictionary for which `stacked_weights.unsupported` returns None.

    `max_pieces` bounds the output without its end; scores are divided by the length, the end included, to the power of
    `length_penalty`. `start` is the decoder's first input, by default the end of sentence. Every output begins with the
    ids of `prefix`, which count towards length and score, as in fairseq. No output contains the ids `banned` (default:
    the padding).
    """

    def __init__(
        self,
        models: Sequence[Any],
        dictionary: Any,
        *,
        beam: int,
        max_pieces: int,
        length_penalty: float,
        start: int | None = None,
        prefix: Sequence[int] = (),
        banned: Sequence[int] | None = None,
    ) -> None:
        self._start = dictionary.eos() if start is None else start
        self._prefix = prefix
        self._pad, self._eos = dictionary.pad(), dictionary.eos()
        self._banned = [self._pad] if banned is None else list(banned)
        self._size = len(dictionary)
        self._beam = beam
        self._max_pieces = max_pieces
        self._length_penalty = length_penalty
        self._stacks, self._place = stacks_of(models)
        self._members = len(models)
        self._outputs = Outputs(self._stacks, self._size)

    def search(self, tokens: Tensor) -> list[list[Found]]:
        """Return the hypotheses of each source, the best first.

        Args:
            tokens: Sources padded on the left, ends included, [sentences, length].

        Raises:
            NaNFound: A member computed NaN.
        """
        import torch

        with torch.inference_mode():
            batch = self._begin(tokens)
            for step in range(self._max_pieces + 1):
                if batch.advance(step, last=step == self._max_pieces):
                    break
            return batch.finished()

    def _begin(self, tokens: Tensor) -> Batch:
        return Batch(self, tokens)

    def _candidates(self, hidden: list[Tensor], step: int, *, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return the most probable tokens of each row: ids [rows, k], log-probabilities of the ensemble and of members.

        The first token is never the end of sentence, the last always is; within the prefix, its tokens are the only
        candidates.
        """
        import torch

        rows = hidden[0].shape[1]
        size = self._outputs.rows_at_once(hidden)
        parts = [
            self._candidates_of([each[:, start : start + size] for each in hidden], step, last)
            for start in range(0, rows, size)
        ]
        if len(parts) == 1:
            return parts[0]
        pieces, logs, members = zip(*parts, strict=True)
        return torch.cat(pieces), torch.cat(logs), torch.cat(members, dim=1)

    def _candidates_of(self, hidden: list[Tensor], step: int, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        logits, probabilities = self._outputs(hidden)
        mean = probabilities.sum(0)
        mean[:, self._banned] = -1
        if step == 0:
            mean[:, self._eos] = -1
        forced = self._eos if last else self._prefix[step] if step < len(self._prefix) else None
        pieces = _largest(mean, min(2 * self._beam, self._size - len(self._banned)) if forced is None else 1)
        if forced is not None:  # beside the most probable token, which normalises the logarithms
            pieces = torch.cat([pieces, torch.full_like(pieces, forced)], dim=1)
        logs, members = self._logs(pieces, logits, probabilities)
        return (pieces, logs, members) if forced is None else (pieces[:, 1:], logs[:, 1:], members[:, :, 1:])

    def _logs(self, pieces: Tensor, logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of pieces by the ensemble, [rows, k], and by members, [members, rows, k].

        Args:
            pieces: Token ids, [rows, k], the most probable one of each row among them.
            logits: [members, rows, vocabulary].
            probabilities: [members, rows, vocabulary].
        """
        import torch

        index = pieces.expand(self._members, -1, -1)
        chosen, shares = logits.gather(2, index).float(), probabilities.gather(2, index)
        # The normaliser of each row, from its largest candidate, whose logarithm is exact.
        share, place = shares.max(2, keepdim=True)
        members = chosen - (chosen.gather(2, place) - share.log())
        logs = members[0] if self._members == 1 else torch.logsumexp(members, 0) - math.log(self._members)
        return logs, members


def _largest(values: Tensor, count: int) -> Tensor:
    """Return the positions of each row's `count` largest values, which are in the chunks with the largest maxima."""
    import torch

    rows, size = values.shape
    chunks = size // _CHUNK
    if chunks <= 2 * count:
        return values.topk(count, dim=1)[1]
    whole, rest = values[:, : chunks * _CHUNK].unflatten(1, (chunks, _CHUNK)), values[:, chunks * _CHUNK :]
    best = whole.amax(2).topk(count, dim=1)[1]
    found = whole.gather(1, best.unsqueeze(2).expand(-1, -1, _CHUNK)).flatten(1)
    places = (best.unsqueeze(2) * _CHUNK + torch.arange(_CHUNK, device=values.device)).flatten(1)
    tail = torch.arange(chunks * _CHUNK, size, device=values.device).expand(rows, -1)
    index = torch.cat([found, rest], dim=1).topk(count, dim=1)[1]
    return torch.cat([places, tail], dim=1).gather(1, index)


class Batch:
    """The search of one batch. `alive`: the sentence that each row belongs to."""

    further_scores = 0  # scores that are kept beside those of the members

    def __init__(self, search: StackedSearch, tokens: Tensor) -> None:
        import torch

        self.search = search
        beam, self.device = search._beam, tokens.device
        sentences = len(tokens)
        lengths = tokens.ne(search._pad).sum(1)
        source = {"src_tokens": tokens, "src_lengths": lengths}
        self.states: list[State] = [stack.begin(source, sentences) for stack in search._stacks]
        self.alive = torch.arange(sentences, device=self.device)
        self.tokens = torch.full((sentences, 1), search._start, device=self.device)
        self.scores = torch.zeros((sentences, 1), device=self.device)
        columns = search._members + self.further_scores
        self.member_scores = torch.zeros((columns, sentences, 1), device=self.device)
        kind = self.states[0].cross[0][0].dtype
        self.past = torch.zeros((sentences, 1, 1), device=self.device, dtype=kind)
        self.own_slots = torch.full((beam, beam), -math.inf, device=self.device, dtype=kind).fill_diagonal_(0)
        self.nan = torch.zeros(columns, dtype=torch.bool, device=self.device)  # members that gave NaN
        # For each step, by sentence: the token of each hypothesis and the place of the hypothesis it extends.
        self.history: list[tuple[Tensor, Tensor, Tensor]] = []
        # For each sentence: its finished hypotheses in the order found; the last place takes any that is one too many.
        self.ends = torch.zeros(sentences, dtype=torch.long, device=self.device)
        self.end_scores = torch.full((sentences, beam + 1), -math.inf, device=self.device)
        self.end_members = torch.zeros((columns, sentences, beam + 1), device=self.device)
        self.end_places = torch.zeros(
            (sentences, beam + 1, 2), dtype=torch.long, device=self.device
        )  # step, hypothesis

    def advance(self, step: int, *, last: bool) -> bool:
        """Make one step. Return whether all sentences are done."""
        import torch

        search, beam = self.search, self.search._beam
        hidden = [
            stack.step(state, self.tokens, step, self.past)
            for stack, state in zip(search._stacks, self.states, strict=True)
        ]
        chosen, scores, members, parents = self._choose(step, hidden, last=last)
        sentences = len(self.tokens)
        ends = chosen.eq(search._eos) & scores.gt(-math.inf)
        self._set_aside(step, ends[:, :beam], scores[:, :beam], members[:, :, :beam], parents[:, :beam])
        done = self.ends[self.alive].ge(beam)
        number_done, any_nan = torch.stack([done.sum(), self.nan.any()]).tolist()  # one synchronisation with the GPU
        if any_nan:
            raise NaNFound(self.nan[search._place].nonzero().flatten().tolist())
        if last or number_done == len(done):
            return True
        onward = torch.sort(ends.byte(), dim=1, stable=True)[1][:, :beam]
        self.tokens, self.scores = chosen.gather(1, onward), self._carried(scores, ends).gather(1, onward)
        self.member_scores = members.gather(2, onward.expand(len(members), -1, -1))
        parents = parents.gather(1, onward)
        self.history.append((self.alive, self.tokens, parents))
        past = self.past.gather(1, parents.unsqueeze(2).expand(-1, -1, self.past.shape[2]))
        width = onward.shape[1]  # 1 after a token of the prefix, else the beam
        self.past = torch.cat([past, self.own_slots[:width, :width].expand(sentences, -1, -1)], dim=2)
        if number_done > _WASTE * len(done):
            self._keep((~done).nonzero().squeeze(1))
        return False

    def _choose(self, step: int, hidden: list[Tensor], *, last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose the candidates of each sentence, the best first.

        Returns:
            The candidates' tokens, the scores of their hypotheses, the members' scores, and the positions of the
            hypotheses that they extend; members' scores are [members, sentences, candidates], all others [sentences,
            candidates].
        """
        import torch

        pieces, logs, member_logs = self.search._candidates(hidden, step, last=last)
        self.nan |= member_logs.isnan().flatten(1).any(1)
        sentences, rows = self.tokens.shape
        width = pieces.shape[1]
        total = (self.scores.unsqueeze(2) + logs.view(sentences, rows, width)).flatten(1)
        scores, index = torch.topk(total, min(2 * self.search._beam, total.shape[1]))
        parents = torch.div(index, width, rounding_mode="floor")
        chosen = pieces.view(sentences, -1).gather(1, index)
        wide = index.expand(len(member_logs), -1, -1)
        members = member_logs.view(len(member_logs), sentences, -1).gather(2, wide)
        members += self.member_scores.gather(2, parents.expand_as(wide))
        return chosen, scores, members, parents

    def _carried(self, scores: Tensor, ends: Tensor) -> Tensor:
        """Return the candidates' scores for the next step; `ends` marks finished ones, which sampling excludes."""
        return scores

    def _set_aside(self, step: int, ends: Tensor, scores: Tensor, members: Tensor, parents: Tensor) -> None:
        import torch

        beam = self.search._beam
        counts = self.ends[self.alive]
        place = counts.unsqueeze(1) + ends.cumsum(1) - 1
        place = torch.where(ends & place.lt(beam), place, beam)
        rows = self.alive.unsqueeze(1).expand_as(place)
        length = (step + 1) ** self.search._length_penalty
        self.end_scores[rows, place] = scores / length
        self.end_members[:, rows, place] = members / length
        self.end_places[rows, place] = torch.stack([torch.full_like(parents, step), parents], dim=2)
        self.ends[self.alive] = (counts + ends.sum(1)).clamp(max=beam)

    def _keep(self, index: Tensor) -> None:
        self.alive, self.tokens, self.scores, self.past = (
            tensor.index_select(0, index) for tensor in (self.alive, self.tokens, self.scores, self.past)
        )
        self.member_scores = self.member_scores.index_select(1, index)
        for state in self.states:
            state.keep(index)

    def finished(self) -> list[list[Found]]:
        """Return the hypotheses, traced back through the history."""
        import numpy as np

        sentences, beam = len(self.ends), self.search._beam
        steps = len(self.history)
        pieces = np.zeros((steps, sentences, beam), dtype=np.int64)
        parents = np.zeros((steps, sentences, beam), dtype=np.int64)
        for step, (alive, tokens, before) in enumerate(self.history):
            rows = alive.cpu().numpy()
            pieces[step, rows] = tokens.cpu().numpy()
            parents[step, rows] = before.cpu().numpy()
        places = self.end_places[:, :beam].cpu().numpy()
        hypothesis = places[:, :, 1].copy()
        ids = np.full((steps + 1, sentences, beam), self.search._eos)
        rows = np.arange(sentences)[:, None]
        for step in range(steps - 1, -1, -1):
            there = places[:, :, 0] > step
            ids[step] = np.where(there, pieces[step][rows, hypothesis], ids[step])
            hypothesis = np.where(there, parents[step][rows, hypothesis], hypothesis)
        return self._lists(ids, places[:, :, 0])

    def _lists(self, ids: Any, lengths: Any) -> list[list[Found]]:
        counts, scores = self.ends.tolist(), self.end_scores.tolist()
        members = self.end_members[self.search._place].permute(1, 2, 0).tolist()
        lists = []
        for sentence, count in enumerate(counts):
            found = [
                Found(
                    ids[: lengths[sentence, rank] + 1, sentence, rank].tolist(),
                    scores[sentence][rank],
                    members[sentence][rank],
                )
                for rank in range(count)
            ]
            lists.append(sorted(found, key=lambda each: -each.score))
        return lists
