"""The report says what the leakage guard found, and in large letters that it was off."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console

from kd.base.records import plain, record
from kd.report.corpora import Leakage, LeakedCorpus, LeakedSet, leakage
from kd.report.data import ReportData
from kd.report.page import render
from kd.report.results import terminal

OF_ALL = "(training pairs that match any dev or test set)"
OFF = Leakage([LeakedCorpus("en-de", "off", 0), LeakedCorpus("da-en", "remove", 2)], [LeakedSet("en-de test", 10)], 5)


def shown(report: ReportData) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_was_removed_stands_in_page_and_table(report: ReportData) -> None:
    page = render(report, {})
    assert "<h2>Leakage: removed 17 (training pairs that match any dev or test set)</h2>" in page
    row = "".join(f'<td class="number">{number}</td>' for number in ("2,998", 9, 6, 4))
    assert f'<th scope="row">en-de test (newstest2018)</th>{row}' in page
    assert "3 reproduce a test reference of another source (2 different ones)" in page
    assert "LEAKAGE GUARD OFF" not in page
    assert "Leakage guard: removed 17 (training pairs that match any dev or test set)" in shown(report)


def test_off_stands_in_large_letters(report: ReportData) -> None:
    off = dataclasses.replace(report, leakage=OFF)
    page = render(off, {})
    assert '<p class="alarm" role="alert">LEAKAGE GUARD OFF</p>' in page
    assert page.index("LEAKAGE GUARD OFF") < page.index('class="verdict"')
    assert "Training corpora of en-de were not compared" in page
    assert "LEAKAGE GUARD OFF" in shown(off)
    assert "font-size" in page.partition(".alarm {")[2].partition("}")[0]


def test_clean_is_called_clean_and_a_run_without_the_guard_says_nothing(report: ReportData) -> None:
    clean = dataclasses.replace(report, leakage=Leakage([LeakedCorpus("en-de", "remove", 0)]))
    assert "<h2>Leakage: clean</h2>" in render(clean, {})
    assert "Leakage guard: clean" in shown(clean)
    none = dataclasses.replace(report, leakage=None)
    assert "eakage" not in render(none, {}).partition("</style>")[2]
    assert "eakage" not in shown(none)


def test_it_survives_json(report: ReportData) -> None:
    again = record(ReportData, plain(report), "report.json")
    assert again.leakage == report.leakage
    assert record(ReportData, {**plain(report), "leakage": None}, "report.json").leakage is None


def test_all_training_corpora_are_one_record() -> None:
    def shard(axis: str, **found: int) -> dict[str, object]:
        facts = {
            "mode": "remove",
            "pairs": sum(found.values()),
            "one_sided_words": 5,
            "held_out_sets": {"en-de test": 10, f"{axis} dev": 3},
            "sets": {"en-de test": found},
            "known_test_sets": {},
        }
        return {"axis": axis, "settings": {}, "facts": {"leakage": facts}}

    sources = {"news": {"use": "train", "id": "Statmt-newstest_deen-2019-deu-eng"}, "exam": {"use": "test"}}
    select = {"axis": "en-de", "settings": {}, "facts": {"reproduced": {"outputs": 3, "references": 1}}}
    found = leakage(
        [
            {"axis": "en-de", "settings": {"sources": sources}, "facts": {}},
            shard("en-de", both=2, source=1),
            shard("da-en", target=4),
            select,
            select,
        ]
    )
    assert found is not None
    assert found.sets == [LeakedSet("en-de test", 10, 2, 1, 4), LeakedSet("en-de dev", 3), LeakedSet("da-en dev", 3)]
    assert (found.verdict, found.off, list(found.warnings)) == (f"removed 7 {OF_ALL}", [], ["news"])
    assert (found.reproduced_outputs, found.reproduced_references) == (6, 2)
    assert leakage([select]) is None
