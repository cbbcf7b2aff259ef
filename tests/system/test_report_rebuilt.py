"""`kd report` shows the page of the given settings: it makes a missing page again, or names the missing inputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runs_of_tiny import Workplace

pytestmark = pytest.mark.system


def pages(place: Workplace) -> dict[Path, str]:
    """Return the title of each report in the store."""
    found = place.store.glob("report/*/all/report.json")
    return {path.parent: json.loads(path.read_text("utf-8"))["title"] for path in found}


def test_other_settings_of_the_report_make_another_page(workplace: Workplace, tmp_path: Path) -> None:
    before = pages(workplace)
    done = workplace.kd("report", "report.title=Another", f"run.dir={tmp_path}")
    (page,) = pages(workplace).keys() - before.keys()
    assert pages(workplace)[page] == "Another" and len(before) == 1
    shown = tmp_path / "report" / "all" / "index.html"
    assert f"Page: {shown}" in done.stdout and "<title>Another</title>" in shown.read_text("utf-8")
    names = {path.name for path in page.iterdir()}
    assert {"index.html", "report.json", "results.md", "results.tex", "figures"} <= names
    figures = {path.name for path in (page / "figures").iterdir()}
    assert {"speed.svg", "speed.png", "bleu-updates.svg", "bleu-updates.png", "ranks-1.png"} <= figures

    # What was lost is made again, and comes out the same to the last byte.
    was = (page / "index.html").read_bytes()
    shutil.rmtree(page)
    workplace.kd("report", "report.title=Another", f"run.dir={tmp_path}")
    assert (page / "index.html").read_bytes() == was
    shutil.rmtree(page)  # the other tests of this run find it as they left it


def test_a_page_whose_scores_are_missing_is_refused(workplace: Workplace, tmp_path: Path) -> None:
    done = workplace.kd("report", "evaluate.bootstrap=7", f"run.dir={tmp_path}", check=False)
    assert done.returncode == 2 and "Page:" not in done.stdout
    told = " ".join(done.stderr.split())
    assert "report/all needs evaluate.en-xx/all, which is missing" in told and "`kd run recipe=" in told
    assert "Traceback" not in done.stderr


def test_stages_and_costs_are_in_the_order_of_the_chain(finished: Workplace) -> None:
    report = json.loads((finished.run / "report" / "all" / "report.json").read_text("utf-8"))
    order = [cost["stage"].partition(".")[0] for cost in report["costs"]]
    chain = ["collect", "clean", "split", "shard", "vocabulary", "encode", "teacher", "decode", "select"]
    chain += ["encode_selected", "student", "export", "translate", "evaluate"]
    assert [stage for stage in order if stage in chain] == chain
    assert [step["stage"] for step in report["flow"]][:2] == ["collect", "clean"]
    assert report["weaknesses"][0]["systems"].keys() == {row.name for row in finished.report().systems}
    assert all(curve["points"][-1]["train_loss"] for curve in report["curves"])
