"""Compare one model for all language pairs with bilingual models of equal architecture, pair by pair.

A run without bilingual students has no such section. A difference is called real only if a paired test on the pair's
own test set is significant.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from kd.base.text import amount, duration
from kd.report import formatting as form
from kd.report.comparing import Difference, difference
from kd.report.data import ReportData
from kd.report.systems import SystemRow
from kd.report.table import NOT_APPLICABLE, Cell, Column, Document, Table
from kd.report.verdict import NO_TRANSLATION

MEAN = "mean"  # the last row, where there are several pairs
_TEST = f"{form.p_meaning()}; paired bootstrap resampling"


def compared_pairs(data: ReportData) -> list[str]:
    """Return the language pairs that have both a multilingual and a bilingual student."""
    pairs = dict.fromkeys(row.pair for row in data.systems)
    return [pair for pair in pairs if data.verdict.bilingual and all(_rows(data, pair)[:2])]


def _rows(data: ReportData, pair: str) -> tuple[SystemRow | None, SystemRow | None, SystemRow | None]:
    """Return the bilingual student, the multilingual one, and its control."""
    roles = data.verdict
    return data.system(roles.bilingual, pair), data.system(roles.student, pair), data.system(roles.control, pair)


def score_table(data: ReportData, metric: str) -> Table:
    """Make the table of scores, one row per language pair and one of their mean."""
    pairs = compared_pairs(data)
    found = [_rows(data, pair) for pair in pairs]
    to_bilingual = [_apart(data, student, bilingual, metric) for bilingual, student, _ in found]
    to_control = [_apart(data, student, control, metric) for _, student, control in found]
    names = [Cell(pair or "the pair", pair) for pair in pairs]
    columns = [
        Column("Pair", [*names, *([Cell(MEAN)] if len(pairs) > 1 else [])], numeric=False),
        Column(f"bilingual, {metric}", _scores([bilingual for bilingual, _, _ in found], metric)),
        Column(f"multilingual, {metric}", _scores([student for _, student, _ in found], metric)),
        Column("difference", _gains(to_bilingual, metric), explanation="multilingual minus bilingual student"),
        Column("p", _tests(to_bilingual), explanation=_TEST),
        Column(f"control, {metric}", _scores([control for _, _, control in found], metric)),
        Column("to control", _gains(to_control, metric), explanation="multilingual student minus its control on gold"),
        Column("p to control", _tests(to_control), explanation=_TEST),
    ]
    return Table(columns, f"{metric} of multilingual and bilingual students")


def cost_table(data: ReportData) -> Table:
    """Make the table of size and training costs of one model for all pairs and of the bilingual models together."""
    pairs = compared_pairs(data)
    bilingual = [row for row in (_rows(data, pair)[0] for pair in pairs) if row]
    shared = [row for row in (_rows(data, pair)[1] for pair in pairs) if row]
    deployed = [row for pair in pairs if (row := data.system(data.verdict.export, pair))]
    rows = {
        f"{len(pairs)} bilingual models together": (bilingual, len(bilingual)),
        "one multilingual model": (shared[:1], 1),
        f"the same as {data.verdict.export}": (deployed[:1], 1),
    }
    rows = {name: found for name, found in rows.items() if found[0]}

    def column(heading: str, value: Callable[[SystemRow], float | None], shown: Callable[[float], str]) -> Column:
        return Column(heading, [Cell(_sum(found, value, shown)) for found, _ in rows.values()])

    columns = [
        Column("Models", [Cell(name) for name in rows], numeric=False),
        Column("How many", [Cell(form.count(count)) for _, count in rows.values()]),
        column("Parameters, millions", lambda row: row.parameters and row.parameters / 1e6, amount),
        column("Size, MB", lambda row: row.megabytes, amount),
        column("Updates", lambda row: row.training_updates, lambda value: form.count(int(value))),
        column("Training", lambda row: row.training_seconds, duration),
    ]
    return Table(columns, "Size and training of multilingual and bilingual students")


def summary(data: ReportData) -> list[str]:
    """Describe in sentences the loss of quality and the savings of one model for all pairs."""
    pairs, metric = compared_pairs(data), data.verdict.metric
    found = [(pair, _apart(data, _rows(data, pair)[1], _rows(data, pair)[0], metric)) for pair in pairs]
    known = {pair: apart for pair, apart in found if apart}
    if not known:
        return []
    if metric == "BLEU" and all(_untranslated(data, pair) for pair in known):
        return ["None of these students translates yet, so the comparison shows nothing."]
    mean = Difference(statistics.fmean(apart.gain for apart in known.values()), metric, None)
    sentences = [
        f"One model for {len(pairs)} language pairs is on average {mean.place} bilingual students of equal "
        "architecture" + (" and number of updates." if _equal_updates(data, pairs) else ".")
    ]
    for word, sign in (("better", 1), ("worse", -1)):
        there = [pair for pair, apart in known.items() if apart.significant and apart.gain * sign > 0]
        sentences.append(f"It is significantly {word} in {', '.join(there) or 'no pair'} (paired bootstrap, p < 0.05).")
    one, other = data.system(data.verdict.student, pairs[0]), data.system(data.verdict.bilingual, pairs[0])
    sizes = [row.megabytes for pair in pairs if (row := data.system(data.verdict.bilingual, pair)) and row.megabytes]
    if one and other and one.megabytes and len(sizes) == len(pairs):
        sentences.append(
            f"It takes {amount(one.megabytes)} MB, the bilingual students {amount(sum(sizes))} MB together."
        )
    return sentences


def document(data: ReportData) -> Document:
    """Make the tables for documents."""
    tables = [*(score_table(data, metric) for metric in data.metrics()), cost_table(data)]
    return Document(f"{data.title}: language pairs", tables, summary(data), data.signatures())


def _equal_updates(data: ReportData, pairs: Sequence[str]) -> bool:
    updates = {row.training_updates for pair in pairs for row in _rows(data, pair)[:2] if row}
    return len(updates) == 1 and None not in updates


def _untranslated(data: ReportData, pair: str) -> bool:
    scores = [row.score("BLEU") for row in _rows(data, pair)[:2] if row]
    return all(score is None or score.value < NO_TRANSLATION for score in scores)


def _apart(data: ReportData, row: SystemRow | None, other: SystemRow | None, metric: str) -> Difference | None:
    return difference(data, row, other, metric) if row and other else None


def _scores(rows: Sequence[SystemRow | None], metric: str) -> list[Cell]:
    values = [score.value if row and (score := row.score(metric)) else None for row in rows]
    return _with_mean(values, lambda value: form.metric_score(metric, value))


def _gains(found: Sequence[Difference | None], metric: str) -> list[Cell]:
    """Return cells of differences; positive where the multilingual model is better, also for error rates."""
    return _with_mean([apart.gain if apart else None for apart in found], partial(form.signed, metric))


def _tests(found: Sequence[Difference | None]) -> list[Cell]:
    cells = [
        Cell(form.p_value(apart.p_value), apart.p_value)
        if apart and apart.p_value is not None
        else Cell(NOT_APPLICABLE)
        for apart in found
    ]
    return [*cells, *([Cell()] if len(found) > 1 else [])]


def _with_mean(values: Sequence[float | None], shown: Callable[[float], str]) -> list[Cell]:
    cells = [Cell() if value is None else Cell(shown(value), value) for value in values]
    known = [value for value in values if value is not None]
    if len(values) > 1:  # a mean over some of the pairs only would mislead
        cells.append(Cell(shown(statistics.fmean(known))) if len(known) == len(values) else Cell(NOT_APPLICABLE))
    return cells


def _sum(rows: Sequence[SystemRow], value: Callable[[SystemRow], float | None], shown: Callable[[float], str]) -> str:
    values = [value(row) for row in rows]
    known = [each for each in values if each is not None]
    return shown(sum(known)) if known and len(known) == len(values) else ""
