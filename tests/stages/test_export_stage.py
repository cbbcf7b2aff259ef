"""The stage export: compared with fairseq before it is published; any checkpoint of a training; mistakes told early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.engines.fairseq.checkpoints import numbered
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import ExportConfig
from kd.stages.export import Export

CONFIG = ExportConfig(formats={"int8": True}, compare=30, beam=2, max_pieces=40)


@pytest.fixture(scope="module")
def held_out(task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    write_heldout(folder, "de-en", {"dev": [Pair(i, *texts) for i, texts in enumerate(task.dev)]})
    return folder


def job_of(
    out: Path, model: Path, held_out: Path, identity: Mapping[str, Any], config: ExportConfig = CONFIG
) -> Job[ExportConfig]:
    out.mkdir()
    manifest = {
        "facts": {"averaged": ["checkpoint_1_400.pt"], "updates": 400, "parameters": 7},
        "inputs": {"data": ["e@f"]},
    }
    inputs = {
        "models": [Artifact(model, "student", "student.de-en", "member-1", "f1", "de-en", {}, manifest)],
        "held_out": [Artifact(held_out, "held_out", "split", "all", "f2", None, {}, {})],
    }
    languages = {"source": "de", "target": "en"}
    return Job("student", "export.de-en", config, identity, "de-en", languages, inputs, {}, out, [], 1, 1, "cpu", {},
               Progress(None))  # fmt: skip


@pytest.mark.parametrize(("format_", "fewest"), [("huggingface", 29), ("argos", 20)])
def test_packages_are_compared_with_fairseq_before_they_are_published(
    format_: str, fewest: int, trained, held_out: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "out", trained.folder, held_out, {"format": format_})
    Export().run(job)
    summary = Export().check(job)
    assert summary.counts["compared"] > 20 and summary.counts["identical"] >= fewest


def test_the_agreement_with_fairseq_is_in_its_description(trained, held_out: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path / "out", trained.folder, held_out, {"format": "float32"})
    Export().run(job)
    summary = Export().check(job)
    description = json.loads((job.out / "model.json").read_text("utf-8"))
    agreement = description["agreement"]
    assert agreement["sentences"] + agreement["cut"] == 30
    assert agreement["identical"] >= 29  # FACTS: 99.9 % of sentences that hit no length cap
    assert agreement["chrf"] > 99 and agreement["signature"].startswith("nrefs:1|case:mixed")
    assert summary.counts["identical"] == agreement["identical"]
    assert description["run"] == {
        "model": "student.de-en/member-1@f1", "checkpoint": "checkpoint_1_400.pt", "inputs": {"data": ["e@f"]},
        "updates": 400, "parameters": 7,
    }  # fmt: skip
    # The same folder, with what another model would have said: it is not published.
    (job.out / "model.json").write_text(json.dumps({**description, "agreement": {**agreement, "identical": 20}}))
    with pytest.raises(IncompleteArtifact, match="translates 20 of 30 sentences as fairseq does"):
        Export().check(job)
    Export().check(replace(job, identity={"format": "int8"}))  # whose agreement is stated, and no condition
    # As where every sentence reached the longest length.
    nothing = {**agreement, "sentences": 0, "identical": 0, "cut": 30}
    (job.out / "model.json").write_text(json.dumps({**description, "agreement": nothing}))
    assert "no translation could be compared" in Export().check(job).facts["note"]


def test_a_checkpoint_that_was_not_averaged(trained, held_out: Path, tmp_path: Path) -> None:
    kept = numbered(trained.folder / "checkpoints")
    job = job_of(tmp_path / "out", trained.folder, held_out, {"format": "float32", "checkpoint": str(kept[-1].updates)})
    Export().run(job)
    Export().check(job)
    description = json.loads((job.out / "model.json").read_text("utf-8"))
    assert description["run"]["checkpoint"] == kept[-1].path.name
    assert description["agreement"]["identical"] >= 0.9 * description["agreement"]["sentences"]
    averaged = job_of(
        tmp_path / "averaged", trained.folder, held_out, {"format": "float32"}, replace(CONFIG, compare=1)
    )
    Export().run(averaged)
    weights = [(each.out / "model" / "model.bin").read_bytes() for each in (job, averaged)]
    assert weights[0] != weights[1]
    with pytest.raises(UserError, match=r"kept no checkpoint 7 .*export\.checkpoint"):
        Export().run(job_of(tmp_path / "none", trained.folder, held_out, {"format": "int8", "checkpoint": "7"}))


@pytest.mark.parametrize(
    ("config", "told"), [(replace(CONFIG, checkpoint="newest"), "export.checkpoint is 'newest'"),
                         (replace(CONFIG, formats={"int7": True}), "int7")]
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(config: ExportConfig, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Export().validate(config)
