"""One table in four forms: the same cells, escaped for each."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kd.report.table import NOT_APPLICABLE, Cell, Column, Document, Table, latex_text, markdown_text

NAMES = Column("System", [Cell("a|b <c>"), Cell("d & e")], numeric=False, short="System")
SCORES = Column(
    "BLEU",
    [Cell("30.1", 30.12, "± 1.2", strong=True, significant=True), Cell("29.0", 29.0)],
    explanation="x",
    short="B",
)
EMPTY = Column("p", [Cell(), Cell(NOT_APPLICABLE)])
TABLE = Table([NAMES, SCORES, EMPTY], "Scores & more", ["first", "second"], ["all", "2"])


def terminal(table: Table) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table.terminal())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("\n")


def test_a_column_without_a_value_is_left_out() -> None:
    assert [column.heading for column in TABLE.columns] == ["System", "BLEU"]
    assert not Table([EMPTY]) and TABLE


def test_the_terminal_shows_text_and_detail() -> None:
    lines = terminal(TABLE)
    assert lines[0].strip() == "Scores & more"
    assert [line.split() for line in lines if "30.1" in line] == [["a|b", "<c>", "30.1", "±", "1.2"]]
    assert [column.heading for column in TABLE.short.columns] == ["System", "B"]


def test_markdown_escapes_and_aligns() -> None:
    assert TABLE.markdown().split("\n") == [
        "| System | BLEU |",
        "| --- | ---: |",
        "| a\\|b \\<c\\> | **30.1 ± 1.2** |",
        "| d & e | 29.0 |",
        "",
    ]


def test_latex_is_a_booktabs_table_with_small_details_and_daggers() -> None:
    lines = TABLE.latex().split("\n")
    assert lines[0] == "\\begin{tabular}{lr}" and lines[-2] == "\\end{tabular}"
    assert lines[4] == (
        "a\\textbar\\allowbreak{}b \\textless{}c\\textgreater{} & "
        "\\textbf{30.1} {\\footnotesize $\\pm$ 1.2}$^{\\dagger}$ \\\\"
    )
    assert lines[5] == "d \\& e & 29.0 \\\\"


def test_html_escapes_and_has_classes_sort_keys_and_the_total() -> None:
    page = str(TABLE.html("sortable"))
    assert 'aria-label="Scores &amp; more"' in page and '<table class="sortable">' in page
    assert '<tr class="first"><th scope="row">a|b &lt;c&gt;</th>' in page
    assert '<td class="number" data-sort="30.12"><strong>30.1</strong><small>± 1.2</small></td>' in page
    assert '<th scope="col" class="number"><abbr title="x">BLEU</abbr></th>' in page
    assert '<tfoot><tr><th scope="row">all</th><td class="number">2</td></tr></tfoot>' in page


def test_rows_of_texts_become_a_table() -> None:
    table = Table.of_rows(["Stage", "Tasks", "Limit"], [("train", "4", "48 h"), ("decode", "8", "")], text=["Stage"])
    assert [(column.heading, column.numeric) for column in table.columns] == [
        ("Stage", False), ("Tasks", True), ("Limit", True),
    ]  # fmt: skip
    assert table.markdown().split("\n")[3] == "| decode | 8 |  |"
    assert not Table.of_rows(["Stage", "Tasks"], [])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Table.of_rows(["Stage", "Tasks"], [("train",)])


def test_numbers_are_sorted_by_value_and_none_stays_empty() -> None:
    column = Column.of("s", [1.26, None], "{:.1f}".format)
    assert column.cells == [Cell("1.3", 1.26), Cell()]


def test_documents_have_their_notes_in_both_forms() -> None:
    document = Document("T_1", [TABLE], ["50 % better"], {"BLEU": "tok:13a|x"}, ["p < 0.05"])
    assert document.markdown().startswith("# T\\_1\n\n50 % better\n\n| System |")
    assert document.markdown().endswith("\n\n- BLEU: `tok:13a|x`\n- p \\< 0.05\n")
    tex = document.latex()
    assert tex.startswith("% T_1\n% needs \\usepackage{booktabs}\n% 50 % better\n% BLEU: tok:13a|x\n\\begin{tabular}")
    assert "BLEU: tok:13a\\textbar\\allowbreak{}x \\\\\np \\textless{} 0.05 \\\\\n$\\dagger$: p $<$ 0.05" in tex


def test_control_characters_are_visible() -> None:
    assert markdown_text("a\x1bb") == "a\u241bb" and latex_text("1\u22122\x00") == "1$-$2\u2400"
