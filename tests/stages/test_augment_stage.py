"""The stage augment: a corpus with variants, exact after a restart; what is planned with it and without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.finished import JOURNAL
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin, Pair
from kd.corpora.shards import Corpus, CorpusWriter
from kd.pipeline.model import Artifact, Job
from kd.pipeline.plan import Plan
from kd.recipe import compose
from kd.recipe.schema import AugmentConfig
from kd.stages.augment import Augment

NEWS = Origin("en-de", "news")
CONFIG = AugmentConfig(seed=3, upper_case=0.3, typos=0.3, copied_spans=0.3)


@pytest.fixture
def job(tmp_path: Path) -> Job[AugmentConfig]:
    """A corpus of three shards and a test set."""
    numbered = NEWS.number((f"Parcel {n} arrives today.", f"Paket {n} kommt heute.") for n in range(90))
    with CorpusWriter(tmp_path / "shard", ("en", "de"), 30, ["rank"], keep_groups=True, origins=[NEWS]) as writer:
        for pair in numbered:
            writer.add(pair, "0")
    write_heldout(tmp_path / "split", "en-de", {"test": [Pair(1, "Hello", "Hallo")]})
    return made(tmp_path, "out")


def made(folder: Path, out: str) -> Job[AugmentConfig]:
    corpus = Artifact(folder / "shard", "corpus", "shard.en-de", "all", "f", "en-de", {}, {})
    held_out = Artifact(folder / "split", "held_out", "split", "all", "f", None, {}, {})
    (folder / out).mkdir()
    return Job("all", "augment.en-de", CONFIG, {}, "en-de", {"source": "en", "target": "de"},
               {"corpus": [corpus], "held_out": [held_out]}, {}, folder / out, [], 1, 1, "cpu", {},
               Progress(None))  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_variants_stand_behind_their_pairs_and_are_counted(job: Job[AugmentConfig], tmp_path: Path) -> None:
    Augment().run(job)
    counts = Augment().check(job).counts
    corpus = Corpus(job.out)
    assert corpus.columns == ("id", "source", "target", "rank") and len(corpus.shards) == 3
    assert {origin.name for origin in corpus.origins.values()} == {
        "news", "news+upper_case", "news+typos", "news+copied_spans",
    }  # fmt: skip
    upper = sum(pair.source.isupper() and "PARCEL" in pair.source for pair in corpus.read())
    assert counts["pairs in"] == 90 and counts["upper case"] == upper > 10
    assert counts["pairs out"] == 90 + upper + counts["typos"] + counts["copied spans"] == corpus.pairs


def test_a_restart_gives_the_same_bytes(job: Job[AugmentConfig], tmp_path: Path) -> None:
    Augment().run(job)
    again = made(tmp_path, "again")
    Augment().run(again)
    for name in ("00001.tsv.zst", "index.json"):  # as if it had been killed in the second shard
        (again.out / name).unlink()
    (again.out / "00001.tsv.zst.partial").write_bytes(b"\x28")
    journal = [line for line in (again.out / JOURNAL).read_text().split("\n") if '"00001"' not in line]
    (again.out / JOURNAL).write_text("\n".join(journal))
    kept = (again.out / "00000.tsv.zst").stat().st_mtime_ns
    Augment().run(again)
    assert files(again.out) == files(job.out)
    assert (again.out / "00000.tsv.zst").stat().st_mtime_ns == kept  # not written again


def test_several_processes_give_the_same_bytes(job: Job[AugmentConfig], tmp_path: Path) -> None:
    Augment().run(job)
    several = replace(made(tmp_path, "several"), threads=2)
    Augment().run(several)
    assert files(several.out) == files(job.out)


def test_shards_of_other_settings_are_made_again(job: Job[AugmentConfig], tmp_path: Path) -> None:
    Augment().run(job)
    other = replace(job, config=replace(CONFIG, upper_case=0.0))
    Augment().run(other)
    assert Augment().check(other).counts.get("upper case") is None
    assert not any("PARCEL" in pair.source for pair in Corpus(job.out).read())


def test_a_lost_pair_is_noticed(job: Job[AugmentConfig], tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "less", ("en", "de"), 30, ["rank"], keep_groups=True, origins=[NEWS]) as writer:
        for pair in list(Corpus(tmp_path / "shard").read())[:89]:
            writer.add(pair, "0")
    (corpus,) = job.inputs["corpus"]
    Augment().run(replace(job, inputs={**job.inputs, "corpus": [replace(corpus, path=tmp_path / "less")]}))
    with pytest.raises(IncompleteArtifact, match=r"00002.* has None where line 30 of"):
        Augment().check(job)


def test_shares_of_variants_are_at_most_all_sources() -> None:
    with pytest.raises(UserError, match=r"add up to 1\.2, and a source has one variant"):
        Augment().validate(AugmentConfig(seed=1, upper_case=0.7, typos=0.5, copied_spans=1.0))


# --- the chain -------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n", "utf-8")


def planned(*overrides: str) -> Plan:
    return compose.plan(compose.compose(compose.parse_request(["recipe=files", "source=a", "target=b", *overrides])))


def reads(plan: Plan, stage: str, role: str) -> set[str]:
    found = {task.stage.spec.name: task for task in plan.tasks()}
    return {item.task.stage.spec.name for item in found[stage].inputs[role]}


def test_teachers_translate_the_variants_and_the_control_learns_them_from_gold(two_files: None) -> None:
    plan = planned("augment.upper_case=0.05", "augment.copied_spans=0.02")
    assert reads(plan, "decode", "corpus") == reads(plan, "select", "corpus") == {"augment"}
    assert reads(plan, "encode_selected", "corpus") == {"copy_selected"}
    assert reads(plan, "control", "data") == {"encode_gold"}
    assert reads(plan, "encode_gold", "corpus") == {"augment_gold"}
    assert reads(plan, "teacher", "data") == {"encode"} and reads(plan, "encode", "corpus") == {"shard"}
    identities = {task.stage.spec.name: dict(task.identity) for task in plan.tasks()}
    assert identities["augment"] == {"seed": 1, "upper_case": 0.05}
    assert identities["copy_selected"] == {"seed": 1, "copied_spans": 0.02}
    assert identities["augment_gold"] == {"seed": 1, "upper_case": 0.05, "copied_spans": 0.02}


def test_only_the_stages_that_have_work_are_there(two_files: None) -> None:
    copies = planned("augment.copied_spans=0.02", "students.control=false", "evaluate.baseline=null")
    stages = {task.stage.spec.name for task in copies.tasks()}
    assert stages & {"augment", "augment_gold", "encode_gold", "copy_selected", "copy_first"} == {"copy_selected"}
    assert reads(copies, "decode", "corpus") == {"shard"}
    off = planned()
    assert not {task.stage.spec.name for task in off.tasks()} & {"augment", "augment_gold", "encode_gold",
                                                                 "copy_selected"}  # fmt: skip
    assert reads(off, "control", "data") == {"encode"} and reads(off, "encode_selected", "corpus") == {"select"}


@pytest.mark.parametrize(
    ("value", "told"),
    [("nothing", "no stage .*nothing"), ("augment_gold", r"chain\.augment_gold\.only_with leads back to augment_gold")],
)
def test_a_stage_that_is_there_only_with_another_names_one(two_files: None, value: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        planned(f"chain.augment_gold.only_with={value}")
