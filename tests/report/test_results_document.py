"""The table of results as Markdown and as LaTeX: the page's numbers, whatever systems are called."""

import dataclasses
import re

from kd.models.systems import System, SystemRole
from kd.report import formatting as form
from kd.report import page
from kd.report.data import ReportData
from kd.report.results import results_document


def markdown(report: ReportData) -> str:
    return results_document(report).markdown()


def latex(report: ReportData) -> str:
    return results_document(report).latex()


def test_markdown_has_the_pages_numbers(report: ReportData) -> None:
    lines = markdown(report).split("\n")
    header, rule, *rows = [line for line in lines if line.startswith("|")]
    assert (
        header
        == "| System | BLEU | p | chrF2 | p | Parameters, millions | Size, MB | Sentences/s | Updates | Training |"
    )
    assert rule.count("---") == header.count("|") - 1 == 10
    assert rows[2].startswith("| teacher ensemble | **30.1** | – | **53.0** |")
    assert rows[6] == "| student int8 | 25.7 | 0.021 | 49.7 | 0.021 | 2.3 | 2.6 | 611 |  |  |"
    assert "- BLEU: `nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`" in lines
    assert "- Leakage guard: removed 17 (training pairs that match any dev or test set)" in lines


def test_p_is_explained_in_the_same_words_everywhere(report: ReportData) -> None:
    meaning = f"p: {form.p_meaning()} (student, student float32, student int8 against control)"
    assert f"- {meaning}; paired bootstrap resampling (Koehn, 2004)" in markdown(report)
    for text in (markdown(report), latex(report), page.render(report, {})):
        assert meaning in text and "of no difference" not in text


def test_latex_is_a_booktabs_table(report: ReportData) -> None:
    text = latex(report)
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert "\\begin{tabular}{lrrrrrrrrr}" in text
    (row,) = re.findall(r"^teacher ensemble .*$", text, flags=re.MULTILINE)
    assert row.startswith("teacher ensemble & \\textbf{30.1} & -- & \\textbf{53.0}")
    assert row.count("&") == 9 and row.endswith(" \\\\")


def test_names_are_text_and_no_markup(report: ReportData) -> None:
    row = dataclasses.replace(report.systems[0], system=System(SystemRole.teacher, "a|b_c <x> \\d &\x1b[1m"))
    spoiled = dataclasses.replace(report, title="100 % of\n$it", systems=[row])
    assert "| a\\|b\\_c \\<x\\> \\\\d &␛\\[1m |" in markdown(spoiled)
    assert "a\\textbar\\allowbreak{}b\\_c \\textless{}x\\textgreater{} \\textbackslash{}d \\&␛[1m &" in latex(spoiled)
    assert latex(spoiled).startswith("% 100 % of $it\n% needs")


def test_a_report_of_nothing_has_no_table() -> None:
    nothing = ReportData("t", "2026-11-21")
    assert "|" not in markdown(nothing) and "tabular" not in latex(nothing)
