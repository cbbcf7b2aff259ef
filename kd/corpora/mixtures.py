"""Lists of a mixture: those of several teachers, joined source by source, with the origin of each hypothesis.

A joined hypothesis has, beside its score, the feature `NAME.rank` for each member (its rank in that member's list, from
0, or -1 where the list lacks it) and `NAME.score` for each member that can score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kd.corpora.ids import Pair
from kd.corpora.index import Damaged
from kd.corpora.nbest import Hypothesis, NBestList, NBestShard
from kd.corpora.shard import Shard

RANK, SCORE = ".rank", ".score"  # endings of features, after a member's name
ABSENT = -1.0  # rank of a hypothesis in a list that lacks it


@dataclass(frozen=True)
class JoinedSource:
    """The distinct hypotheses of all members for one source.

    Attributes:
        id: The id of the first pair with this source.
        source: The source.
        ranks: Text of each distinct hypothesis -> member -> its rank in the member's list, from 0.
    """

    id: int
    source: str
    ranks: Mapping[str, Mapping[str, int]]


def join_lists(shard: Shard, lists: Mapping[str, NBestShard]) -> Iterator[JoinedSource]:
    """Yield the joined hypotheses of each source of a shard, in order. Equal texts are one hypothesis.

    Args:
        shard: The shard that was decoded.
        lists: The lists of this shard by member.

    Raises:
        Damaged: A member's list is missing, superfluous or of another source.
    """
    readers = [_with_name(name, each.beside(shard)) for name, each in lists.items()]
    for rows in zip(*readers, strict=True):
        group = rows[0][1]
        ranks: dict[str, dict[str, int]] = {}
        for name, other, nbest in rows:
            if [pair.id for pair in other] != [pair.id for pair in group]:
                raise Damaged(f"The lists of {name} for {shard.path} are not in the order of the other members' lists.")
            for rank, hypothesis in enumerate(nbest.hypotheses):
                ranks.setdefault(hypothesis.text, {}).setdefault(name, rank)
        yield JoinedSource(group[0].id, group[0].source, ranks)


def _with_name(name: str, rows: Iterator[tuple[list[Pair], NBestList]]) -> Iterator[tuple[str, list[Pair], NBestList]]:
    for group, nbest in rows:
        yield name, group, nbest


def joined_list(joined: JoinedSource, members: Sequence[str], scores: Mapping[str, Sequence[float]]) -> NBestList:
    """Return the list of a source, the best hypothesis first.

    Its score is the mean over the members that can score, or 0 if none can. Among equal scores, the hypothesis with the
    better rank in any member's list comes first, then the one that was read first, member by member.

    Args:
        joined: The hypotheses.
        members: All members, in the order of the features.
        scores: Member that can score -> its score of each hypothesis, in the order of `joined.ranks`.
    """
    hypotheses = []
    for number, (text, ranks) in enumerate(joined.ranks.items()):
        own = [each[number] for each in scores.values()]
        features = {name + RANK: (float(ranks.get(name, ABSENT)),) for name in members}
        features |= {name + SCORE: (score,) for name, score in zip(scores, own, strict=True)}
        hypotheses.append(Hypothesis(text, features, sum(own) / len(own) if own else 0.0))
    best = [min(ranks.values()) for ranks in joined.ranks.values()]
    order = sorted(range(len(hypotheses)), key=lambda number: (-hypotheses[number].score, best[number]))
    return NBestList(joined.id, [hypotheses[number] for number in order])


def origins(hypothesis: Hypothesis) -> list[str]:
    """Return the members that a joined hypothesis comes from; empty for lists of another kind."""
    return [
        name.removesuffix(RANK)
        for name, values in hypothesis.features.items()
        if name.endswith(RANK) and values[0] != ABSENT
    ]
