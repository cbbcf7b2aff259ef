"""The stage translate with output that somebody else's system made: it is taken over as it is, or refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import TranslateConfig
from kd.stages.outputs import HYPOTHESES
from kd.stages.translate import Translate

LINES = ["eins\u2028zwei", "", "drei\r"]


@pytest.fixture
def job(tmp_path: Path) -> Job[TranslateConfig]:
    """Output of a system `opus-mt` for three segments."""
    write_heldout(tmp_path / "split", "en-de", {"test": [Pair(i, text, text) for i, text in enumerate("abc")]})
    path = tmp_path / "opus.de.gz"
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in LINES).encode()))
    config = TranslateConfig(beam=4, max_pieces=8, given={"opus-mt": "opus.{target}.gz"}, root=str(tmp_path))
    held_out = Artifact(tmp_path / "split", "held_out", "split", "all", "f", None, {}, {})
    (tmp_path / "out").mkdir()
    return Job("opus-mt", "translate.en-de", config, {"given": True}, "en-de", {"source": "en", "target": "de"},
               {"held_out": [held_out]}, {path: sha256(path)}, tmp_path / "out", [], 1, 1, "cpu", {},
               Progress(None))  # fmt: skip


def test_it_is_taken_over_as_it_is(job: Job[TranslateConfig]) -> None:
    Translate().run(job)
    summary = Translate().check(job)
    # A \r before \n is part of the line's end.
    assert (job.out / HYPOTHESES).read_bytes() == "eins\u2028zwei\n\ndrei\n".encode()
    assert (summary.counts, summary.facts) == ({"segments": 3}, {"note": "made elsewhere"})


def test_it_has_a_line_for_each_segment(job: Job[TranslateConfig], tmp_path: Path) -> None:
    write_heldout(tmp_path / "split", "en-de", {"test": [Pair(1, "a", "a")]})
    with pytest.raises(UserError, match=r"given\.opus-mt\) has 3 lines, and the test sets of en-de have 1 segments"):
        Translate().run(job)


def test_it_is_the_file_that_was_planned_with(job: Job[TranslateConfig]) -> None:
    with pytest.raises(UserError, match="has changed since the run was planned"):
        Translate().run(replace(job, files=dict.fromkeys(job.files, "another")))
