"""Sampling from an ensemble, and diverse beam search: alternatives to `search.py` for more varied n-best lists.

Samples depend only on the seed and the source, not on the batch, since each sentence has its own random numbers. In
rare cases a sample still changes, because a sentence's probabilities may differ in the last digits between batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.search import Batch, StackedSearch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Settings of samples: see `SampledSearch`."""

    seed: int
    temperature: float = 1.0
    top: int = 0


@dataclass(frozen=True)
class Diversity:
    """Settings of a diverse beam search: see `DiverseSearch`."""

    groups: int
    strength: float


class SampledSearch(StackedSearch):
    """Draw `beam` translations of each source from the mean of the members' probabilities, token by token."""

    def __init__(self, models: Sequence[Any], dictionary: Any, *, sampling: Sampling, **settings: Any) -> None:
        """Prepare the models.

        Args:
            models: Models as for `StackedSearch`.
            dictionary: Their dictionary.
            sampling: The seed; the temperature, by which logits are divided; and the number of most probable tokens to
                draw from, 0 for the whole vocabulary.
            settings: Settings of `StackedSearch`.
        """
        super().__init__(models, dictionary, **settings)
        self._sampling = sampling

    def _begin(self, tokens: Tensor) -> Batch:
        return _SampledBatch(self, tokens)

    def uniforms(self, tokens: Tensor) -> Tensor:
        """Return random numbers from 0 to 1, [sentences, steps, samples], by the seed and each source's tokens."""
        import numpy as np
        import torch

        rows = []
        for row in tokens.tolist():
            source = repr([token for token in row if token != self._pad]).encode("ascii")
            key = int.from_bytes(blake2b(source, digest_size=8).digest(), "big")
            generator = np.random.Generator(np.random.Philox(key=self._sampling.seed << 64 | key))
            rows.append(generator.random((self._max_pieces + 1, self._beam)))
        return torch.from_numpy(np.stack(rows)).to(tokens.device)

    def sample(
        self, hidden: list[Tensor], uniforms: Tensor, *, first: bool, last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw tokens for each row.

        Args:
            hidden: The result of `Stack.step` for each stack.
            uniforms: A random number for each token to draw, [rows, k].
            first: Whether the end is excluded.
            last: Whether only the end remains.

        Returns:
            Token ids, [rows, k], and their log-probabilities by the ensemble, [rows, k], and by members,
            [members, rows, k].
        """
        import torch

        size = self._outputs.rows_at_once(hidden)
        parts = [
            self._sample([each[:, at : at + size] for each in hidden], uniforms[at : at + size], first, last)
            for at in range(0, len(uniforms), size)
        ]
        pieces, logs, members = zip(*parts, strict=True)
        return torch.cat(pieces), torch.cat(logs), torch.cat(members, dim=1)

    def _sample(self, hidden: list[Tensor], uniforms: Tensor, first: bool, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        logits, probabilities = self._outputs(hidden)
        weights = probabilities.sum(0).double()
        weights[:, self._banned] = 0
        if first:
            weights[:, self._eos] = 0
        best = weights.argmax(1, keepdim=True)
        if last:
            drawn = torch.full_like(uniforms, self._eos, dtype=torch.long)
        else:
            if self._sampling.top:
                least = weights.topk(min(self._sampling.top, self._size), dim=1)[0][:, -1:]
                weights = weights.masked_fill(weights < least, 0)
            weights = (weights / weights.amax(1, keepdim=True)) ** (1 / self._sampling.temperature)
            sums = weights.cumsum(1)
            # `right`: a number equal to a sum belongs to the next token, so that tokens of weight 0 are never drawn.
            drawn = torch.searchsorted(sums, uniforms * sums[:, -1:], right=True).clamp(max=self._size - 1)
        pieces = torch.cat([best, drawn], dim=1)  # `_logs` needs the most probable token
        logs, members = self._logs(pieces, logits, probabilities)
        return drawn, logs[:, 1:], members[:, :, 1:]


class _SampledBatch(Batch):
    """Samples of one batch. A finished hypothesis continues with the score minus infinity, and is ignored."""

    search: SampledSearch

    def __init__(self, search: SampledSearch, tokens: Tensor) -> None:
        super().__init__(search, tokens)
        self._uniforms = search.uniforms(tokens)

    def _choose(self, step: int, hidden: list[Tensor], *, last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        import torch

        sentences, rows = self.tokens.shape  # one row per sentence in the first step, then one per sample
        beam = self.search._beam
        uniforms = self._uniforms[self.alive, step].reshape(sentences * rows, beam // rows)
        pieces, logs, member_logs = self.search.sample(hidden, uniforms, first=step == 0, last=last)
        self.nan |= member_logs.isnan().flatten(1).any(1)
        parents = torch.arange(beam, device=self.device).expand(sentences, -1) // (beam // rows)
        members = member_logs.reshape(len(member_logs), sentences, beam)
        members = members + self.member_scores.gather(2, parents.expand_as(members))
        scores = self.scores.gather(1, parents) + logs.reshape(sentences, beam)
        return pieces.reshape(sentences, beam), scores, members, parents

    def _carried(self, scores: Tensor, ends: Tensor) -> Tensor:
        return scores.masked_fill(ends, float("-inf"))


class DiverseSearch(StackedSearch):
    """Diverse beam search (Vijayakumar et al., 2018, arXiv 1610.02424) as in fairseq's `DiverseBeamSearch`.

    The beam is divided into groups that choose in turn. At each step, a candidate loses `strength` for each candidate
    of an earlier group with the same token. These penalties only steer the search: scores of hypotheses exclude them.
    """

    def __init__(self, models: Sequence[Any], dictionary: Any, *, diversity: Diversity, **settings: Any) -> None:
        """Prepare the models. The width of the beam must be a multiple of the number of groups."""
        super().__init__(models, dictionary, **settings)
        self.diversity = diversity

    def _begin(self, tokens: Tensor) -> Batch:
        return _DiverseBatch(self, tokens)


class _DiverseBatch(Batch):
    """The diverse search of one batch; the last of the members' scores is the ensemble's, without costs."""

    search: DiverseSearch
    further_scores = 1

    def _choose(self, step: int, hidden: list[Tensor], *, last: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        import torch

        search, groups = self.search, self.search.diversity.groups
        pieces, logs, member_logs = search._candidates(hidden, step, last=last)
        member_logs = torch.cat([member_logs, logs.unsqueeze(0)])
        self.nan |= member_logs.isnan().flatten(1).any(1)
        sentences, rows = self.tokens.shape
        width = pieces.shape[1]
        pieces, logs = pieces.view(sentences, rows, width), logs.view(sentences, rows, width)
        used = torch.zeros((sentences, search._size), device=self.device)
        found = []
        for group in range(groups):
            own = slice(None) if rows == 1 else slice(group, None, groups)
            costs = search.diversity.strength * used.gather(1, pieces[:, own].flatten(1)).view_as(pieces[:, own])
            total = (self.scores[:, own].unsqueeze(2) + logs[:, own] - costs).flatten(1)
            scores, index = torch.topk(total, min(2 * search._beam // groups, total.shape[1]))
            local = torch.div(index, width, rounding_mode="floor")
            parents = local if rows == 1 else local * groups + group
            chosen = pieces[:, own].flatten(1).gather(1, index)
            used.scatter_add_(1, chosen, torch.ones_like(scores))
            found.append((chosen, scores, parents * width + index % width))
        chosen, scores, index = (torch.stack(each, 2).flatten(1) for each in zip(*found, strict=True))
        parents = torch.div(index, width, rounding_mode="floor")
        wide = index.expand(len(member_logs), -1, -1)
        members = member_logs.view(len(member_logs), sentences, -1).gather(2, wide)
        members += self.member_scores.gather(2, parents.expand_as(wide))
        return chosen, scores, members, parents

    def _lists(self, ids: Any, lengths: Any) -> Any:
        self.end_scores = self.end_members[-1]
        return super()._lists(ids, lengths)
