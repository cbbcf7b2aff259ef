"""Speed: how fast each system translates on this machine, one after the other and with nothing else running.

Every system gets the same sentences, batch size, beam and one thread; the median of several rounds counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from kd.config import SpeedConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.engines.systems import Decoding, form, group, load, megabytes
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Artifact, Job, Kind, Role, Summary
from kd.stages.outputs import SPEED


class Speed(Kind[SpeedConfig]):
    """Measures speed and size."""

    name = "speed"
    version = 1
    config = SpeedConfig
    roles: ClassVar = {"held_out": Role(), "systems": Role(many=True)}
    resources = "decode"
    exclusive = True

    def validate(self, config: SpeedConfig) -> None:
        """There is something to measure."""
        for name in ("sentences", "repeats", "batch_tokens"):
            if getattr(config, name) < 1:
                raise UserError(f"evaluate.speed.{name} is {getattr(config, name)}.", "It must be at least 1.")

    def run(self, job: Job[SpeedConfig]) -> None:
        """Measures one system after the other."""
        test = read_heldout(job.one("held_out").path, str(job.axis), "test")
        sources = [pair.source for pair in test][: job.config.sentences]
        systems = _systems(job)
        measured = {}
        for number, (name, artifacts) in enumerate(systems.items()):
            job.progress.update(f"measuring {name}", number, len(systems), "systems")
            measured[name] = _measure([artifact.path for artifact in artifacts], sources, job)
        note = (
            f"{len(sources)} sentences, batches of {job.config.batch_tokens} pieces, beam {job.config.beam}, "
            f"one thread, median of {job.config.repeats}; loading not counted"
        )
        write_json(job.out / SPEED, {"note": note, "systems": measured})

    def check(self, job: Job[SpeedConfig]) -> Summary:
        """Every system has a figure."""
        measured = read_json(job.out / SPEED)["systems"]
        if set(measured) != set(_systems(job)):
            raise IncompleteArtifact(f"{job.out / SPEED} lacks a system.")
        return Summary({"systems": len(measured)})


def _systems(job: Job[SpeedConfig]) -> dict[str, list[Artifact]]:
    models = [(a.label, a.task, str(a.manifest["kind"]), a) for a in job.inputs["systems"]]
    return group(models, [label for label, wanted in job.config.ensembles.items() if wanted])


def _measure(folders: Sequence[Path], sources: Sequence[str], job: Job[SpeedConfig]) -> dict[str, Any]:
    config = job.config
    decoding = Decoding(config.beam, config.max_pieces, config.batch_tokens)
    system = load(folders, decoding, threads=1, device=job.device)
    system(sources[:20])  # the first call pays for what later ones find ready
    seconds = []
    for _ in range(config.repeats):
        began = time.perf_counter()
        system(sources)
        seconds.append(time.perf_counter() - began)
    return {
        "form": form(folders[0]),
        "sentences_per_second": len(sources) / statistics.median(seconds),
        "seconds": seconds,
        "megabytes": megabytes(folders),
    }
