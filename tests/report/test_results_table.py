"""The terminal's table and the columns that it shares with the page."""

import dataclasses
import io

from rich.console import Console

from kd.base.text import amount, size
from kd.models.systems import System
from kd.report import formatting as form
from kd.report.data import ReportData
from kd.report.results import results_table, terminal
from kd.report.systems import SystemRow


def renamed(row: SystemRow, label: str) -> SystemRow:
    return dataclasses.replace(row, system=System(row.system.role, label))


def printed(report: ReportData, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_fits_a_terminal_of_80_columns(report: ReportData) -> None:
    lines = printed(report).split("\n")
    (row,) = [line for line in lines if line.startswith(" student int8")]
    assert row.split() == ["student", "int8", "25.7", "0.021", "49.7", "0.021", "2.3", "2.6", "611"]
    assert max(len(line) for line in lines[: lines.index(row) + 1]) <= 80


def test_states_signatures_and_baseline(report: ReportData) -> None:
    text = printed(report, 80)
    for signature in report.signatures().values():
        assert signature in text
    joined = " ".join(text.split())
    for words in ("a difference this large", "student int8 against control", "paired bootstrap resampling"):
        assert words in joined


def test_the_verdict_stands_below(report: ReportData) -> None:
    shown = " ".join(printed(report).split())
    assert (
        "Distillation helped, as far as one seed shows: the student is 1.6 BLEU above the control, p = 0.013." in shown
    )


def test_names_are_no_markup_and_no_escape_sequences(report: ReportData) -> None:
    first, *others = report.systems
    text = printed(dataclasses.replace(report, systems=[renamed(first, "[red]\x1b[2J"), *others]), 120)
    assert "[red]\u241b[2J" in text and "\x1b" not in text


def test_columns_without_values_are_left_out(report: ReportData) -> None:
    rows = [SystemRow(row.system, [dataclasses.replace(row.scores[0], p_value=None)]) for row in report.systems]
    assert [
        column.heading for column in results_table(dataclasses.replace(report, systems=rows), intervals=True).columns
    ] == [
        "System",
        "BLEU",
        "Kind",
    ]


def test_pair_is_shown_where_there_are_several_and_each_has_its_best(report: ReportData) -> None:
    rows = [dataclasses.replace(row, pair=pair) for pair in ("en-de", "en-sv") for row in report.systems]
    columns = {column.heading: column for column in results_table(dataclasses.replace(report, systems=rows)).columns}
    assert columns["Pair"].cells[0].text == "en-de"
    best = [row.name for row, cell in zip(rows, columns["BLEU"].cells, strict=True) if cell.strong]
    assert best == ["teacher ensemble", "teacher ensemble"]
    assert "Pair" not in {column.heading for column in results_table(report).columns}


def test_numbers_as_they_are_printed() -> None:
    assert [amount(value) for value in (0.0314, 0.5, 1, 12.34, 99.9, 99.96, 1234.5)] == [
        "0.031",
        "0.5",
        "1.0",
        "12.3",
        "99.9",
        "100",
        "1,234",
    ]
    assert [form.p_value(value) for value in (0.0009, 0.001, 0.04999, 1.0)] == ["< 0.001", "0.001", "0.050", "1.000"]
    assert [size(value) for value in (0, 999, 1_000, 2_310_000, 61_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.3 MB",
        "61.0 GB",
    ]
