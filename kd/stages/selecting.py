"""Select from the lists of a shard: the work of each process of the stage `select`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.processes import Tick
from kd.corpora.finished import note_finished
from kd.corpora.guards import Guards
from kd.corpora.ids import PLACE_BITS, Origin, Pair, place_of, prefix_of
from kd.corpora.index import Damaged
from kd.corpora.mixtures import origins
from kd.corpora.nbest import LIMIT, Hypothesis, NBestShard
from kd.corpora.scores import ScoreFile, ScoreShard
from kd.corpora.shard import Shard as CorpusShard
from kd.corpora.shard import ShardWriter
from kd.corpora.shards import target_columns
from kd.corpora.suspects import PART, Suspects
from kd.metrics.disagreement import Disagreement, opinions
from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates, scored_metrics, uses_external_scores
from kd.metrics.statistics import Choice
from kd.recipe.schema import SelectConfig, SelectMetric, Variant

# Of the learnt target: its rank from 0, or `gold`; its score, empty for gold; the score of the teacher's best.
COLUMNS = ("rank", "score", "first_score")
GOLD = "gold"
DISAGREEMENT = "disagreement"  # a further column, with `select.suspects`: of the hypotheses of the list
BATCH = 512  # pairs judged at once
# Metrics that compare a hypothesis with gold, and their best score: the distance from gold is 1 - score / best.
_BEST = {SelectMetric.bleu: 100.0, SelectMetric.chrf: 100.0, SelectMetric.comet: 1.0}


@dataclass(frozen=True)
class ShardToSelect:
    """A shard and the settings that a process needs to select from it."""

    config: SelectConfig
    languages: tuple[str, str]
    origins: tuple[Origin, ...]
    corpus: CorpusShard
    lists: NBestShard
    external: Path | None  # scores made elsewhere
    scored: ScoreShard | None  # scores of the stage `score`
    signatures: Mapping[str, str]  # of the latter, by metric
    out: Path
    made_from: str  # hash of the settings and of the files that it is made from


def select_shard(_: None, item: ShardToSelect, tick: Tick) -> None:
    """Write one shard and its record."""
    chooser = Chooser(item.config, Guards(item.config.guards, *item.languages), item.signatures)
    copies = {}
    if item.config.variant is Variant.best_and_gold:
        copies = {prefix: copy.prefix for prefix, copy in gold_copies(item.origins).items()}
    doubts = Doubts(item.config) if item.config.suspects else None
    with ShardWriter(item.out, item.lists.name, columns_of(item.config)) as writer:
        rows = _candidates(item)
        while batch := list(islice(rows, BATCH)):
            pairs, lists = [pair for pair, *_ in batch], [candidates for _, candidates, _ in batch]
            choices = chooser.choose(lists, [pair.source for pair in pairs])
            texts = [views for *_, views in batch]
            flags = doubts.judge(pairs, lists, choices, texts) if doubts else [()] * len(batch)
            for pair, candidates, choice, flag in zip(pairs, lists, choices, flags, strict=True):
                _write(writer, pair, candidates, choice, copies, item.config, flag)
            tick(len(batch))
    entry = {**writer.entry, "made_from": item.made_from, "facts": chooser.statistics.to_json()}
    if doubts:
        entry["suspects"] = doubts.suspects.write(item.out / (item.lists.name + PART))
    note_finished(item.out, entry)


class Doubts:
    """Measures how far the members of an ensemble are from each other and from gold, and keeps the worst pairs."""

    def __init__(self, config: SelectConfig) -> None:
        """Set the size of the lists of suspects and the scale of the metric."""
        self.suspects = Suspects(config.suspects)
        self._most = _BEST.get(config.metric)
        self._disagreement = Disagreement()

    def judge(
        self,
        pairs: Sequence[Pair],
        lists: Sequence[Candidates],
        choices: Sequence[Choice],
        texts: Sequence[Sequence[str]],
    ) -> list[tuple[str, ...]]:
        """Return the cell `disagreement` of each pair. `texts`: the translations that are compared with each other."""
        cells: list[tuple[str, ...]] = []
        apart = self._disagreement.scores(texts)
        for pair, item, choice, disagreement in zip(pairs, lists, choices, apart, strict=True):
            distance = None if self._most is None else min(1.0, max(0.0, 1 - choice.score / self._most))
            best = choice.preferred if choice.rank is None else choice.rank
            self.suspects.consider(pair, item.hypotheses[best], distance, disagreement)
            cells.append(("" if disagreement is None else f"{disagreement:.4f}",))
        return cells


def _candidates(item: ShardToSelect) -> Iterator[tuple[Pair, Candidates, Sequence[str]]]:
    """Yield every pair with its n-best list, the scores of its hypotheses, and the translations that may disagree.

    Scores come from the stage `score`, from an external file, or from a feature of the list.
    """
    external = None if item.external is None else ScoreFile(item.external)
    rows = {name: item.scored.read(name) for name in scored_metrics(item.config)} if item.scored else {}
    line, limit = 1, item.lists.facts.get(LIMIT) if item.config.guards.limit else None
    for group, nbest in item.lists.beside(item.corpus):
        hypotheses = nbest.hypotheses
        given: dict[str, list[float]] = {}
        if external is not None:
            given["external"] = external.take(len(hypotheses))
        elif item.config.feature is not None and uses_external_scores(item.config):
            given["external"] = [
                _feature(h, item.config.feature, item.lists, line + i) for i, h in enumerate(hypotheses)
            ]
        texts, model_scores = [h.text for h in hypotheses], [h.score for h in hypotheses]
        found_by = [origins(each) for each in hypotheses] if origins(hypotheses[0]) else ()
        limited = [len((h.pieces or "").split(" ")) >= limit for h in hypotheses] if limit else []
        views = opinions(hypotheses) if item.config.suspects else ()
        for pair in group:
            scores = {name: _scores_of(pair, column, item.lists) for name, column in rows.items()}
            candidates = Candidates(texts, pair.target, model_scores, given | scores, limited, found_by)
            yield pair, candidates, views
        line += len(hypotheses)
    if external is not None:
        external.finish()


def _scores_of(pair: Pair, rows: Iterator[tuple[int, list[float]]], lists: NBestShard) -> list[float]:
    """Return the next scores. Raise Damaged unless they belong to this pair."""
    pair_id, scores = next(rows, (None, []))
    if pair_id != pair.id:
        raise Damaged(f"The scores of {lists.name} have {pair_id} where {pair.id} belongs.")
    return scores


def _feature(hypothesis: Hypothesis, name: str, lists: NBestShard, line: int) -> float:
    if name not in hypothesis.features:
        raise UserError(
            f"{lists.path}, line {line}: there is no feature {name} (select.feature).",
            f"It has {', '.join(hypothesis.features) or 'none'}.",
        )
    return hypothesis.features[name][0]


def columns_of(config: SelectConfig) -> tuple[str, ...]:
    """Return the additional columns of a pair; `top` has one for the target of each further epoch."""
    own = (*COLUMNS, DISAGREEMENT) if config.suspects else COLUMNS
    return (*own, *target_columns(config.top)[1:]) if config.variant is Variant.top else own


def _write(
    writer: ShardWriter,
    pair: Pair,
    candidates: Candidates,
    choice: Choice,
    copies: Mapping[int, int],
    config: SelectConfig,
    flag: tuple[str, ...],
) -> None:
    first = (repr(choice.first_score), *flag)
    if choice.dropped:
        return
    further = len(columns_of(config)) - len(COLUMNS) - len(flag)
    if choice.rank is None:
        writer.add(pair, (GOLD, "", *first, *[pair.target] * further))
        return
    texts = [candidates.hypotheses[rank] for rank in (choice.rank, *choice.further)]
    targets = [texts[turn % len(texts)] for turn in range(further + 1)]  # a list may have fewer than `top`
    writer.add(pair._replace(target=targets[0]), (str(choice.rank), repr(choice.score), *first, *targets[1:]))
    if copies:
        copy = copies[prefix_of(pair.id)] << PLACE_BITS | place_of(pair.id)
        writer.add(pair._replace(id=copy), (GOLD, "", *first))


def gold_copies(origins: Any) -> dict[int, Origin]:
    """Map each corpus prefix to the prefix of its gold copies (variant best_and_gold), so that ids stay unique."""
    ending = f"+{GOLD}"
    return {
        origin.prefix: replace(origin, name=origin.name + ending)
        for origin in origins
        if not origin.name.endswith(ending)
    }
