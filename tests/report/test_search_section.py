"""A search in the report: its table and twins, its picture, and nothing of it where there was none."""

from __future__ import annotations

import dataclasses
import json

import pytest

from kd.report.data import ReportData
from kd.report.figures import charts
from kd.report.figures.searching import search_figure
from kd.report.page import render
from kd.report.search import (
    CellForm,
    CellScore,
    Chosen,
    Search,
    SearchCell,
    search_document,
    search_notes,
    search_table,
)


def cell(shape: str, bleu: float, speed: float, *, front: bool) -> SearchCell:
    def form(format_: str, factor: float) -> CellForm:
        scores = [CellScore("BLEU", [bleu - 0.2, bleu + 0.2], bleu, 0.28)]
        on_front = front and format_ == "int8"
        return CellForm(format_, scores, speed * factor, 2 * speed * factor, 9.0, 18.0, 100.0, 20.0, on_front)

    model = {"encoder_layers": 6, "decoder_layers": 1, "width": 512, "ffn": 2048, "heads": 8}
    return SearchCell(
        f"{shape}-best", shape, "best", model, 39_000_000, [1, 2], 500, [form("float32", 0.5), form("int8", 1)]
    )


@pytest.fixture
def search() -> Search:
    """Three cells, of which the one in the middle is chosen."""
    cells = [cell("12-1-512", 30.0, 100, front=True), cell("6-1-512", 29.6, 150, front=True),
             cell("6-6-512", 29.0, 60, front=False)]  # fmt: skip
    chosen = Chosen("6-1-512-best", "6-1-512", "best", cells[1].model)
    return Search(chosen, "12-1-512-best", "BLEU", "one_core", "int8", 0.5, "The rule.", ["A doubt <b>."], cells,
                  "en-fi dev, 1,000 segments", {"BLEU": "tok:13a"}, "one thread", once_a_shape=True)  # fmt: skip


def test_the_table_stands_by_quality_and_marks_the_chosen(search: Search) -> None:
    columns = {column.heading: [c.text for c in column.cells] for column in search_table(search).columns}
    assert columns["Cell"] == [
        f"{name}-best" for name in ("12-1-512", "12-1-512", "6-1-512", "6-1-512", "6-6-512", "6-6-512")
    ]
    assert columns["Format"] == ["float32", "int8"] * 3
    assert columns["±"] == ["0.28"] * 6
    assert columns["Pareto"] == ["", "yes", "", "yes", "", ""]
    assert columns["Parameters, millions"] == ["39.0"] * 6
    assert search_table(search).row_classes == ["", "front", "", "chosen", "", ""]


def test_one_seed_has_no_spread(search: Search) -> None:
    cells = [dataclasses.replace(each, seeds=[1]) for each in search.cells]
    single = dataclasses.replace(search, cells=cells)
    assert "±" not in [column.heading for column in search_table(single).columns]
    assert any("500 updates each, one seed" in note for note in search_notes(single))


def test_latex_is_a_booktabs_table(search: Search) -> None:
    text = search_document(search).latex()
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert "\\textbf{6-1-512-best} & int8 & 29.6 & 0.28 & 150" in text
    assert "A doubt \\textless{}b\\textgreater{}." in text


def test_the_picture_has_front_seeds_and_the_choice(search: Search) -> None:
    drawn = search_figure(search)
    assert drawn is not None
    front, seeds, marks, ring, *names = drawn["layer"]
    # The slowest of the front first, as a line is drawn.
    assert [(v["cell"], v["speed"]) for v in front["data"]["values"]] == [("12-1-512-best", 100), ("6-1-512-best", 150)]
    assert len(seeds["data"]["values"]) == len(marks["data"]["values"]) == 6
    assert [v["cell"] for v in ring["data"]["values"]] == ["6-1-512-best"]
    assert [layer["data"]["values"][0]["system"] for layer in names] == ["12-1-512-best", "6-1-512-best"]
    low, high = marks["encoding"]["y"]["scale"]["domain"]
    assert low < 28.8 and high > 30.2  # seeds lie within


def test_the_page_shows_it_and_is_silent_where_there_was_none(report: ReportData, search: Search) -> None:
    searched = dataclasses.replace(report, searches=[search])
    assert "search-1" in dict(charts(searched)) and "search-1" not in dict(charts(report))
    page = render(searched, {})
    assert '<section id="search">' in page and "A doubt &lt;b&gt;." in page and "<b>." not in page
    assert page.count("tok:13a") > render(report, {}).count("tok:13a")
    assert 'id="search"' not in render(report, {})
    again = ReportData.from_dict(json.loads(searched.to_json()))
    assert again.searches == [search]
