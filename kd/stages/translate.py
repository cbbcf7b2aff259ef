"""Translate: the test set by every system: each teacher, the ensemble, the student, the control, the exports.

What comes out is plain text, one line a segment, for `evaluate` and for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from kd.config import TranslateConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.lines import LineWriter, open_lines
from kd.engines.systems import Decoding, group, load
from kd.errors import IncompleteArtifact
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage
from kd.stages.outputs import HYPOTHESES


class Translate(Kind[TranslateConfig]):
    """Translates the test set."""

    name = "translate"
    version = 1
    config = TranslateConfig
    roles: ClassVar = {"held_out": Role(), "systems": Role(many=True)}
    resources = "decode"

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """One a system."""
        config: TranslateConfig = stage.config
        identity, extent = identity_and_extent(config)
        models = [
            (item.label, item.task.name, item.task.stage.kind.name, item) for item in stage.input_tasks("systems")
        ]
        ensembles = [label for label, wanted in config.ensembles.items() if wanted]
        for name, items in group(models, ensembles).items():
            yield Draft(name, identity, extent, {"held_out": stage.input_tasks("held_out"), "systems": items})

    def run(self, job: Job[TranslateConfig]) -> None:
        """Loads the system and translates."""
        sources = [pair.source for pair in read_heldout(job.one("held_out").path, str(job.axis), "test")]
        decoding = Decoding(job.config.beam, job.config.max_pieces, job.config.batch_tokens)
        job.progress.update("loading")
        folders = [artifact.path for artifact in job.inputs["systems"]]
        system = load(folders, decoding, threads=job.threads, device=job.device)
        outputs = system(sources, lambda done, total: job.progress.update("translating", done, total, "sentences"))
        with LineWriter(job.out / HYPOTHESES) as writer:
            for output in outputs:
                # No line of output may become two: what the vocabulary's bytes can spell, a model may write.
                writer.write(output.replace("\n", " "))

    def check(self, job: Job[TranslateConfig]) -> Summary:
        """A line for each segment."""
        segments = len(read_heldout(job.one("held_out").path, str(job.axis), "test"))
        lines = sum(1 for _ in open_lines(job.out / HYPOTHESES))
        if lines != segments:
            raise IncompleteArtifact(f"{job.out / HYPOTHESES} has {lines} lines for {segments} segments.")
        return Summary({"segments": segments})
