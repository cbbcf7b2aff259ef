"""The page's smaller tables, in cells: costs with their sums and remarks, weaknesses, speed."""

import dataclasses
from pathlib import Path

from kd.metrics.words import word_report
from kd.pipeline.model import Artifact
from kd.report import weaknesses
from kd.report.corpora import flow_table
from kd.report.costs import StageCost, cost_remarks, cost_table, costs
from kd.report.data import ReportData
from kd.report.results import results_document, results_table, set_table, speed_table
from kd.report.systems import MetricScore, Speed, TestSet
from kd.report.table import Table


def texts(table: Table) -> dict[str, list[str]]:
    return {column.heading: [cell.text for cell in column.cells] for column in table.columns}


def test_costs_have_energy_and_their_sum(report: ReportData) -> None:
    found = texts(cost_table(report.costs))
    assert list(found) == [
        "Stage", "Tasks", "Time, tasks together", "GPU", "GPU hours", "GPU in use", "kWh", "PUE", "kg CO₂e/kWh",
        "kg CO₂e", "On disk",
    ]  # fmt: skip
    teacher = [column[1] for column in found.values()]
    assert teacher == [
        "teacher.en-de", "2", "10 min 40 s", "A100-40GB", "12.5", "52.0\u00a0%", "4.2", "1.2", "0.25", "1.3", "120 MB"
    ]  # fmt: skip
    assert cost_table(report.costs).total == [
        "together", "8", "36 min 19 s", "", "12.5", "", "4.2", "", "", "1.3", "249 MB"
    ]  # fmt: skip


def test_idle_gpus_are_said_in_gpu_hours(report: ReportData) -> None:
    idle, energy = cost_remarks(report.costs)
    assert idle.startswith(
        "teacher.en-de used its GPUs 52.0\u00a0% of the time: of 12.5 GPU hours 6.0 were allocated but idle."
    )
    assert energy == (
        "Energy was measured by nvml, of GPUs alone; 6 tasks had no meter and are not counted. "
        "kg CO₂e: kWh × PUE × intensity of the grid."
    )
    busy = dataclasses.replace(report.costs[1], gpu_utilisation=0.7)
    assert len(cost_remarks([busy])) == 1  # 70 % is busy


def test_without_a_meter_it_says_so() -> None:
    found = [StageCost("teacher", 60.0, 1, 10)]
    assert cost_remarks(found) == ["Energy was not measured."]
    assert "kWh" not in texts(cost_table(found))


def test_tokens_of_language_models_and_their_price_are_costs() -> None:
    facts = {"prompt tokens": 1_200_000, "completion tokens": 300, "price": 1.5, "currency": "EUR"}
    manifest = {"seconds": 60.0, "bytes": 10, "facts": facts}
    tasks = [Artifact(Path(), "", "decode", name, "", None, {}, manifest) for name in ("worker-0", "worker-1")]
    other = Artifact(Path(), "", "select", "all", "", None, {}, {**manifest, "facts": {}})
    found = texts(cost_table(costs([*tasks, other])))
    assert found["Tokens read"] == ["2,400,000", ""]
    assert found["Tokens written"] == ["600", ""]
    assert found["Price of tokens"] == ["3.00 EUR", ""]
    assert "Tokens read" not in texts(cost_table(costs([other])))


def test_weaknesses_have_a_row_each_and_a_column_a_system(report: ReportData) -> None:
    found = texts(weaknesses.failings(report.weaknesses[0].systems))
    assert list(found)[1:] == [row.name for row in report.systems]
    rows = dict(zip(found["Segments that are"], found["teacher 2"], strict=True))
    assert rows["empty"] == "1" and rows["copies of the source"] == "2"
    assert rows["kept: numbers"] == "90.0\u00a0% of 80"
    assert not any("names" in row for row in rows)  # there were none to keep


def test_scores_by_length_name_their_metric_where_there_are_several(report: ReportData) -> None:
    found = texts(weaknesses.by_length({"a": report.weaknesses[0].systems["student"]}))
    assert list(found) == ["Words", "Segments", "a BLEU", "a chrF2"] and found["a chrF2"] == ["40.2", "50.1", "51.0"]


def test_what_stages_let_through_has_shares_and_reasons(report: ReportData) -> None:
    found = texts(flow_table(report.flow))
    assert found["Kept"][1] == "55.4\u00a0%"  # 17,310 of 31,224
    assert found["Dropped"][2] == "dev 1,000 · test 1,000"


def test_a_test_set_without_short_inputs_says_nothing_of_them(report: ReportData) -> None:
    weak = report.weaknesses[0]
    none = {
        name: dataclasses.replace(item, short=0, short_exact=0, short_runaway=0) for name, item in weak.systems.items()
    }
    labels = [[cell.text for cell in weaknesses.failings(systems).columns[0].cells] for systems in (weak.systems, none)]
    assert len(labels[0]) - len(labels[1]) == 3
    assert not [label for label in labels[1] if "1–3" in label or "of those" in label]


def test_scores_by_length_leave_out_lengths_that_none_has(report: ReportData) -> None:
    found = texts(weaknesses.by_length(report.weaknesses[0].systems, ["BLEU"]))
    assert found["Words"] == ["1–3", "4–10", "11–20"] and found["student"] == ["18.2", "26.4", "25.1"]
    assert not weaknesses.by_length(report.weaknesses[0].systems, ["TER"])


def test_the_student_stands_first_among_those_behind(report: ReportData) -> None:
    assert list(weaknesses.furthest_behind(report.weaknesses[0], report.verdict)) == ["student", "teacher 1"]


def test_speed_has_a_table_where_more_was_measured_than_the_rate(report: ReportData) -> None:
    assert not speed_table(report)
    rows = [
        dataclasses.replace(row, speed=Speed(latency_ms=9.51, cores=8, sentences_per_second_all_cores=4000.0))
        if row.name == "student int8"
        else row
        for row in report.systems
    ]
    found = texts(speed_table(dataclasses.replace(report, systems=rows)))
    assert found["Latency, ms (median)"] == ["", "", "", "", "9.5"] and found["Sentences/s, 8 cores"][-1] == "4,000"


def test_each_test_set_has_its_guards_verdict(report: ReportData) -> None:
    scores = {"student": [MetricScore("BLEU", 21.04, "s")]}
    sets = [TestSet("held_out", 1000, "clean", scores), TestSet("wmt21", 500, "removed 3", scores)]
    table = set_table(dataclasses.replace(report, test_sets=sets))
    assert texts(table) == {"System": ["student"], "held_out BLEU": ["21.0"], "wmt21 BLEU": ["21.0"]}
    assert (
        table.columns[2].explanation
        == "500 segments; leakage guard: removed 3 (training pairs that match this test set)"
    )


def test_words_by_frequency_and_ngrams_have_tables(report: ReportData) -> None:
    """The figures are those of tests/metrics/test_words.py."""
    known = {"the": 2000, "cat": 3, "dog": 3, "ran": 1}
    words = word_report(
        ["the cat sat", "the the dog"], [["the cat slept"], ["the dog ran"]], known, "the training text"
    )
    before = report.weaknesses[0].systems["student"]
    item = dataclasses.replace(before, words=words)
    assert texts(weaknesses.by_frequency({"student": item})) == {
        "Frequency": ["0", "1", "2–4", "1,000 and more"],
        "Words": ["1", "1", "2", "2"],
        "student": ["0.0\u00a0%", "0.0\u00a0%", "100.0\u00a0%", "80.0\u00a0%"],
    }
    first = next(weaknesses.ngrams(item).rows)
    # Three words that only the output, or only the reference, has in this order.
    assert [cell.text for cell in first] == ["the cat sat", "1", "0", "the cat slept", "0", "1"]
    assert not weaknesses.by_frequency({"student": before}) and not weaknesses.ngrams(before)


def test_a_speed_of_a_busy_machine_is_marked(report: ReportData) -> None:
    rows = [
        dataclasses.replace(row, speed=Speed(others=1.3, disturbed=row.name == "student")) for row in report.systems
    ]
    busy = dataclasses.replace(report, systems=rows)
    [column] = [each for each in results_table(busy).columns if each.heading == "Sentences/s"]
    assert [cell.detail for cell in column.cells if cell.text] == ["", "busy", "", "", ""]
    assert "busy: other processes used the machine in every repetition" in results_document(busy).markdown()
    assert texts(speed_table(busy))["Cores used by other processes"] == ["1.3"] * 5
