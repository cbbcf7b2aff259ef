"""Scores of translations that were made elsewhere, as the search of an ensemble would have scored them.

Translations of one source begin alike: each distinct beginning is read once, as a node of a tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kd.engines.fairseq.stacked import Outputs, stacks_of

if TYPE_CHECKING:
    from torch import Tensor

_ALIVE = 0.9  # of a batch's sentences: where fewer go on, the others are taken out of it


@dataclass(frozen=True)
class Scored:
    """Natural logarithms, divided by the number of pieces, end included, to the power of the length penalty."""

    score: float  # of the ensemble: at each piece the mean of the members' probabilities
    member_scores: list[float]


@dataclass
class _Node:
    """A beginning shared by translations: its last piece, and what it goes on from."""

    piece: int
    parent: int  # number of the node before, within its sentence and depth
    children: dict[int, int] = field(default_factory=dict)  # piece -> number of the node, at the next depth
    row: int = 0  # among those of its sentence and depth that anything goes on from


class TreeScorer:
    """Scores many translations of each source at once; for models that `stacked.unsupported` has nothing against."""

    def __init__(self, models: Sequence[Any], dictionary: Any, *, length_penalty: float) -> None:
        self._pad, self._eos, self._size = dictionary.pad(), dictionary.eos(), len(dictionary)
        self._length_penalty = length_penalty
        self._stacks, self._place = stacks_of(models)
        self._members = len(models)
        self._outputs = Outputs(self._stacks, self._size)

    def score(self, tokens: Tensor, targets: Sequence[Sequence[list[int]]]) -> list[list[Scored]]:
        """The scores of each source's targets, ends included; `tokens` are sources padded on the left."""
        import torch

        with torch.inference_mode():
            levels = [_levels(each, self._eos) for each in targets]
            sums = self._run(tokens, levels)
        return [
            self._scored(each, level, sums, row) for row, (each, level) in enumerate(zip(targets, levels, strict=True))
        ]

    def _scored(
        self,
        targets: Sequence[list[int]],
        levels: list[list[_Node]],
        sums: list[dict[tuple[int, int], list[float]]],
        row: int,
    ) -> list[Scored]:
        """Walks down the tree along each target and adds up; sums[depth][row, node] are logs of reaching the node."""
        found = []
        for target in targets:
            node, total = 0, [0.0] * (self._members + 1)
            for depth, piece in enumerate(target, 1):
                node = levels[depth - 1][node].children[piece]
                total = [a + b for a, b in zip(total, sums[depth][row, node], strict=True)]
            length = len(target) ** self._length_penalty
            found.append(Scored(total[0] / length, [total[1 + place] / length for place in self._place]))
        return found

    def _run(self, tokens: Tensor, levels: list[list[list[_Node]]]) -> list[dict[tuple[int, int], list[float]]]:
        """Reads the trees level by level; of each level, the logs of each node given the one before."""
        import torch

        source = {"src_tokens": tokens, "src_lengths": tokens.ne(self._pad).sum(1)}
        states = [stack.begin(source, len(tokens)) for stack in self._stacks]
        kind = states[0].cross[0][0].dtype
        past = torch.zeros((len(tokens), 1, 0), dtype=kind, device=tokens.device)
        sums: list[dict[tuple[int, int], list[float]]] = [{}]
        alive = list(range(len(levels)))
        for depth in range(max(map(len, levels)) - 1):
            going = [place for place, row in enumerate(alive) if depth + 1 < len(levels[row])]
            if len(going) < _ALIVE * len(alive):
                index = torch.tensor(going, device=tokens.device)
                past = past.index_select(0, index)
                alive = [alive[place] for place in going]
                for state in states:
                    state.keep(index)
            nodes = [_inner(levels[row], depth) for row in alive]
            rows = max(map(len, nodes))
            pieces, parents = (
                torch.tensor([[*row, *[0] * (rows - len(row))] for row in values], device=tokens.device)
                for values in zip(*(_inputs(levels[row], depth) for row in alive), strict=True)
            )
            own = torch.full((rows, rows), -math.inf, dtype=kind, device=tokens.device).fill_diagonal_(0)
            inherited = past.gather(1, parents.unsqueeze(2).expand(-1, -1, past.shape[2]))
            past = torch.cat([inherited, own.expand(len(alive), -1, -1)], dim=2)
            hidden = [stack.step(state, pieces, depth, past) for stack, state in zip(self._stacks, states, strict=True)]
            sums.append(self._logs(hidden, dict(zip(alive, nodes, strict=True)), rows))
        return sums

    def _logs(
        self, hidden: list[Tensor], nodes: dict[int, list[_Node]], rows: int
    ) -> dict[tuple[int, int], list[float]]:
        """Of each child of these nodes, by sentence: the ensemble's logarithm, and the members'."""
        import torch

        wanted = [
            (sentence, child, place * rows + number, piece)
            for place, (sentence, each) in enumerate(nodes.items())
            for number, node in enumerate(each)
            for piece, child in node.children.items()
        ]
        size = self._outputs.rows_at_once(hidden)
        found: dict[tuple[int, int], list[float]] = {}
        parents = sorted({row for _, _, row, _ in wanted})
        for start in range(0, len(parents), size):
            place = {row: number for number, row in enumerate(parents[start : start + size])}
            part = [each for each in wanted if each[2] in place]
            rows_of = torch.tensor(list(place), device=hidden[0].device)
            logits, probabilities = self._outputs([each.index_select(1, rows_of) for each in hidden])
            # The logarithm of the normaliser, from the piece that is most probable.
            normal = logits.amax(2).float() - probabilities.amax(2).log()
            at = torch.tensor([place[row] for _, _, row, _ in part], device=hidden[0].device)
            pieces = torch.tensor([piece for _, _, _, piece in part], device=hidden[0].device)
            members = (logits[:, at, pieces].float() - normal[:, at]).double()
            mean = torch.logsumexp(members, 0, keepdim=True) - math.log(self._members)
            values = torch.cat([mean, members]).t().tolist()
            found |= {(sentence, child): value for (sentence, child, _, _), value in zip(part, values, strict=True)}
        return found


def _inner(level: list[list[_Node]], depth: int) -> list[_Node]:
    """The nodes of a sentence at this depth that something goes on from, each told its row."""
    nodes = [node for node in level[depth] if node.children] if depth < len(level) else []
    for row, node in enumerate(nodes):
        node.row = row
    return nodes


def _inputs(level: list[list[_Node]], depth: int) -> tuple[list[int], list[int]]:
    """Of those nodes: the piece to read, and the row, at the depth before, of what it goes on from."""
    nodes = _inner(level, depth)
    return [node.piece for node in nodes], [level[depth - 1][node.parent].row if depth else 0 for node in nodes]


def _levels(targets: Sequence[list[int]], start: int) -> list[list[_Node]]:
    """The tree of these targets, by depth; its root reads `start`, and its leaves are read by nobody."""
    levels = [[_Node(start, 0)]]
    for target in targets:
        number = 0
        for depth, piece in enumerate(target, 1):
            if depth == len(levels):
                levels.append([])
            children = levels[depth - 1][number].children
            if piece not in children:
                children[piece] = len(levels[depth])
                levels[depth].append(_Node(piece, number))
            number = children[piece]
    return levels
