"""The whole chain on a tiny corpus: models learn, no task is repeated, a change recomputes only the stages after it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from runs_of_tiny import Workplace, bleu

pytestmark = pytest.mark.system


def test_the_student_has_learned(finished: Workplace) -> None:
    scores = bleu(finished.report())
    # An untrained model, and one that only learned the words but not their order, stay under 20 here.
    assert scores["student"] > 50
    assert scores["teacher ensemble"] > 50
    assert {"teacher 1", "teacher 2", "teacher ensemble", "student", "control", "student int8"} <= set(scores)


def test_the_run_is_readable_with_ls(finished: Workplace) -> None:
    assert (finished.run / "student.en-xx" / "member-1").resolve().is_relative_to(finished.store)
    assert (finished.run / "logs" / "student.en-xx" / "member-1.log").is_file()
    assert "<table" in (finished.run / "report" / "all" / "index.html").read_text("utf-8")


def test_cleaning_counts_dropped_pairs_by_reason(finished: Workplace) -> None:
    source = (finished.folder / "corpus" / "corpus.en").read_text("utf-8").split("\n")[:-1]
    target = gzip.decompress((finished.folder / "corpus" / "corpus.xx.gz").read_bytes()).decode().split("\n")[:-1]
    pairs = [pair for pair in zip(source, target, strict=True) if pair[0] and pair[1] != "x"]
    translated = [pair for pair in pairs if pair[0] != pair[1]]
    manifest = json.loads((finished.run / "clean.en-xx" / "all" / "manifest.json").read_text("utf-8"))
    assert {reason: count for reason, count in manifest["dropped"].items() if count} == {
        "empty": 1,
        "ratio": 1,
        "copies": len(pairs) - len(translated),
        "duplicates": len(translated) - len(set(translated)),
    }
    assert manifest["counts"] == {"pairs in": len(source), "pairs out": len(set(translated))}


def test_the_leakage_guard_is_on_and_shown_in_report_and_status(finished: Workplace) -> None:
    report = json.loads((finished.run / "report" / "all" / "report.json").read_text("utf-8"))
    leakage = report["leakage"]
    assert [(corpus["pair"], corpus["mode"]) for corpus in leakage["corpora"]] == [("en-xx", "remove")]
    assert {held["name"]: held["segments"] for held in leakage["sets"]} == {"en-xx dev": 60, "en-xx test": 60}
    assert leakage["reproduced_outputs"] >= leakage["reproduced_references"] >= 0
    assert "Leakage:" in (finished.run / "report" / "all" / "index.html").read_text("utf-8")
    status = finished.kd("status").stdout
    assert [line for line in status.split("\n") if "shard.en-xx" in line and "leakage: " in line]
    manifest = json.loads((finished.run / "shard.en-xx" / "all" / "manifest.json").read_text("utf-8"))
    assert manifest["counts"]["pairs in"] == manifest["counts"]["pairs out"] + sum(manifest["dropped"].values())


def test_every_system_has_translated_the_robustness_suite(finished: Workplace) -> None:
    report = finished.report()
    [robust] = report.robustness
    assert set(robust.systems) == {row.name for row in report.systems}
    assert {item.inputs for item in robust.systems.values()} == {robust.systems["student"].inputs}
    # A vocabulary of ten words: no system copies a URL.
    assert all(item.kinds["url"].failed == 3 for item in robust.systems.values())
    assert '<section id="robustness">' in (finished.run / "report" / "all" / "index.html").read_text("utf-8")


def test_a_second_run_does_nothing(workplace: Workplace) -> None:
    before = workplace.published()
    done = workplace.kd("run")
    assert "Nothing to do" in done.stderr
    assert workplace.published() == before


def test_another_selection_recomputes_only_itself_and_later_stages(workplace: Workplace) -> None:
    before = workplace.published()
    workplace.kd("run", "select.metric=chrf", f"run.dir={workplace.folder}/runs/chrf")
    new = set(workplace.published()) - set(before)
    stages = {name.split("/")[0].partition(".")[0] for name in new}
    judging = {"translate", "speed", "evaluate", "release", "report"}
    assert stages == {"select", "encode_selected", "student", "export", *judging}
    # Of the systems translated, only those that come from the student are translated again.
    translated = {name.split("/")[2] for name in new if name.startswith("translate")}
    assert all(name.startswith("student") for name in translated)
    assert workplace.published().items() >= before.items()


def test_a_single_stage_without_its_inputs_is_refused(workplace: Workplace) -> None:
    done = workplace.kd("run", "stages=[select]", "split.dev=50", check=False)
    assert done.returncode == 2
    assert "decode.en-xx/" in done.stderr or "shard.en-xx/" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_shows_every_stage(finished: Workplace) -> None:
    lines = finished.kd("status", "--all").stdout.split("\n")
    states = [line.split()[2] for line in lines[3:] if line.strip()]
    assert states
    assert set(states) == {"done"}
    assert lines[1] == f"{len(states)} of {len(states)} tasks done"
    assert all(line == line.rstrip() for line in lines)
    stale = finished.kd("status", "decode.nbest=2").stdout
    assert " stale " in stale


def test_clean_keeps_all_artifacts_of_a_run(workplace: Workplace, tmp_path: Path) -> None:
    before = workplace.published()
    done = workplace.kd("clean")
    assert "belong to one of its" in done.stdout or "could be removed" in done.stdout
    assert workplace.published() == before


def test_a_smaller_share_of_the_corpus_reuses_decoded_shards(workplace: Workplace) -> None:
    workplace.kd("run", "decode.share=0.4", "upto=decode", f"run.dir={workplace.folder}/runs/share")
    less = workplace.folder / "runs" / "share" / "decode.en-xx"
    shards = sorted(less.glob("*/*.nbest.zst"))
    whole = sorted((workplace.run / "decode.en-xx").glob("*/*.nbest.zst"))
    assert 0 < len(shards) < len(whole)
    # Not decoded again: the same files on disk, under a second name.
    assert {path.stat().st_ino for path in shards} < {path.stat().st_ino for path in whole}


def test_a_longer_training_continues_a_shorter_one(workplace: Workplace) -> None:
    settings = ["teacher.optimizer.schedule=inverse_sqrt", "teacher.members=1", "upto=teacher"]
    run = workplace.folder / "runs" / "longer"
    for updates in (100, 200):
        workplace.kd("run", *settings, f"teacher.max_update={updates}", f"run.dir={run}")
    log = (run / "logs" / "teacher.en-xx" / "member-1.log").read_text("utf-8")
    assert "continues from update 100 of" in log
    metrics = (run / "teacher.en-xx" / "member-1" / "metrics.jsonl").read_text("utf-8").split("\n")[:-1]
    updates_seen = [json.loads(line)["update"] for line in metrics if '"train"' in line]
    assert updates_seen == sorted(set(updates_seen))
    assert updates_seen[-1] == 200
