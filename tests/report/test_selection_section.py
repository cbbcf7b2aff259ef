"""The section on selection: from the workers' statistics to what the page says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates
from kd.recipe.schema import SelectConfig
from kd.report.data import ReportData
from kd.report.page import render
from kd.report.selection import Histogram, selection


class NoDogs:
    def check(self, source: str, hypothesis: str, limited: bool = False) -> str | None:
        return "dogs" if "dog" in hypothesis else None


def statistics(lists: list[Candidates], metric: str = "bleu") -> dict[str, Any]:
    chooser = Chooser(SelectConfig(metric, "exp", "13a"), NoDogs())
    chooser.choose(lists, ["source"] * len(lists))
    return {**json.loads(json.dumps(chooser.statistics.to_json())), "variant": "best"}


LISTS = [
    Candidates(["a cat <b>sat</b>", "the cat sat here"], "the cat sat here", [-1.0, -2.0]),
    Candidates(["one two three", "one two"], "one two three", [-1.0, -2.0]),
    Candidates(["the dog", "the cat"], "the dog here", [-1.0, -2.0]),
    Candidates(["a dog", "dogs"], "no dog", [-1.0, -2.0]),
]


def test_workers_statistics_become_one_record() -> None:
    found = selection("en-de", [statistics(LISTS[:2]), statistics(LISTS[2:])])
    whole = selection("en-de", [statistics(LISTS)])
    assert found.mean_selected == pytest.approx(whole.mean_selected)
    assert (found.lists, found.changed, found.exact, found.gold, found.ranks) == (3, 2, 2, 1, [1, 2])
    assert (found.set_aside, found.no_way_out) == ({"dogs": 1}, {"dogs": 1})
    assert found.scores is not None and found.first_scores is not None
    assert found.scores.edges == found.first_scores.edges
    assert sum(found.scores.counts) == sum(found.first_scores.counts) == 3
    assert [(side.name, side.words) for side in found.sides] == [
        ("human translation", 10), ("teacher's best", 8), ("what was chosen", 9)
    ]  # fmt: skip
    assert found.examples[0].selected == "the cat sat here"
    # A guard may cost score: the third list's gain is below 0.
    assert isinstance(found.gains, Histogram) and found.gains.edges[0] < 0


def test_the_page_says_what_changed_and_escapes_it() -> None:
    data = ReportData("title", "2026-11-21", selections=[selection("", [statistics(LISTS)])])
    page = render(data, {})
    assert "another hypothesis than the teacher's best was chosen in 2 (66.7\u00a0%)" in page.replace("&#39;", "'")
    assert "Guards: dogs 1" in page
    assert "1 pair kept the human translation" in page
    assert "a cat &lt;b&gt;sat&lt;/b&gt;" in page.replace("<mark>", "").replace("</mark>", "")
    assert ReportData.from_dict(json.loads(data.to_json())) == data


@pytest.mark.parametrize("lists", [[], LISTS[3:]])
def test_a_selection_of_nothing_is_a_page_too(lists: list[Candidates]) -> None:
    page = render(ReportData("title", "2026-11-21", selections=[selection("", [statistics(lists)])]), {})
    assert "What selection changed" in page


def test_scores_of_models_have_their_own_digits() -> None:
    found = selection("", [statistics([LISTS[1]], "model")])
    assert found.scores == Histogram([-1.0, -0.75], [1])
    assert "stayed at -1.000" in render(ReportData("t", "2026-11-21", selections=[found]), {})
