"""Speed: measure the speed of each system on this machine, one after the other with nothing else running.

Every system translates the same sentences with equal batch size and beam: on one core, on all cores, and one sentence
at a time. Memory, loading time and disk space are measured too.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.engines.loading import Decoding
from kd.engines.measuring import Measurement, measure
from kd.models.known import Known, translation
from kd.models.systems import systems_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Spent, StageForecast, TaskWork
from kd.pipeline.model import Artifact, Input, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import SpeedConfig
from kd.stages.asking import served
from kd.stages.outputs import SPEED

ALONE = 4  # cost of a sentence translated alone, as a multiple of one in a batch: 3 to 8 for small models


class Speed(Kind[SpeedConfig]):
    """Measure speed and size."""

    name = "speed"
    version = 4  # 3: MKL gives CTranslate2 one thread; 4: disturbed rounds are repeated
    config = SpeedConfig
    imports = ("torch", "fairseq", "ctranslate2")
    roles: ClassVar = {"held_out": Role(), "systems": Role(many=True)}
    resources = "decode"
    uses_gpus = True
    exclusive = True

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task for all systems, which are measured in turn."""
        identity, extent = identity_and_extent(stage.config)
        systems_of(stage.input_tasks("systems"), stage.config.ensembles)  # refuses two of one name
        inputs = {role: stage.input_tasks(role) for role in stage.inputs}
        # The speed of a server is not a property of this machine, and its answers may have a price.
        systems = [item for item in inputs["systems"] if not served(item)]
        if stage.config.once_a_shape:
            systems = _first_of_each_shape(systems)
        yield TaskSpec("all", identity, extent, {**inputs, "systems": systems})

    def run(self, job: Job[SpeedConfig]) -> None:
        """Measure one system after the other."""
        config = job.config
        pairs = read_heldout(job.one("held_out").path, str(job.axis), config.set.value)
        sources = tuple(pair.source for pair in pairs)[: config.sentences]
        cores = len(os.sched_getaffinity(0)) if config.all_cores else 1
        systems = _systems(job)
        measured = {}
        for number, (name, artifacts) in enumerate(systems.items()):
            job.progress.update(f"measuring {name}", number, len(systems), "systems")
            wanted = Measurement(
                tuple(artifact.path for artifact in artifacts),
                Decoding(config.beam, config.max_pieces, config.batch_tokens, job.axis_value.get("target")),
                sources,
                repeats=config.repeats,
                latency_sentences=config.latency_sentences,
                cores=cores,
                device=job.device,
            )
            measured[name] = measure(wanted)
        note = (
            f"{len(sources)} sentences, batches of {config.batch_tokens} pieces, beam {config.beam}, "
            f"one thread, median of {config.repeats}; loading not counted"
        )
        write_json(job.out / SPEED, {"note": note, "notes": _notes(config, cores), "systems": measured})

    def check(self, job: Job[SpeedConfig]) -> Summary:
        """Check that every system was measured."""
        measured = read_json(job.out / SPEED)["systems"]
        if set(measured) != set(_systems(job)):
            raise IncompleteArtifact(f"{job.out / SPEED} lacks a system.")
        return Summary({"systems": len(measured)})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the sentences that every system translates in all its rounds."""
        config = stage.config
        # On all cores it takes as long again, since the work grows with the cores.
        rounds = config.repeats * (2 if config.all_cores else 1)
        sentences = min(config.sentences, known.held_out(config.set)) * rounds + ALONE * config.latency_sentences + 20
        tasks = {}
        for task in stage.tasks:
            systems = systems_of(task.inputs["systems"], config.ensembles).values()
            work = tuple(translation(self.name, items, sentences, known, config.beam) for items in systems)
            tasks[task.name] = TaskWork(work, allowance=1e6)
        return StageForecast(tasks)

    def spent(self, folder: Path, manifest: Mapping[str, Any], work: TaskWork) -> Iterator[Spent]:
        """Read the seconds of each system from the record of its rounds."""
        systems = read_json(folder / SPEED)["systems"].values()
        for part, system in zip(work.work, systems, strict=False):
            rate, rounds = float(system["sentences_per_second"]), system["seconds"]
            yield Spent(part, len(rounds) * rate * statistics.median(rounds), sum(rounds))


def _first_of_each_shape(systems: Sequence[Input]) -> list[Input]:
    """Return the first export of each shape and format, and all other systems."""
    seen, kept = [], []
    for item in systems:
        models = [other.task.identity.get("model") for other in item.task.inputs.get("models", [])]
        what = (item.task.identity.get("format"), models)
        if not models or what not in seen:
            kept.append(item)
        seen.append(what)
    return kept


def _systems(job: Job[SpeedConfig]) -> dict[str, list[Artifact]]:
    found = systems_of(job.inputs["systems"], job.config.ensembles)
    return {system.name: artifacts for system, artifacts in found.items()}


def _notes(config: SpeedConfig, cores: int) -> dict[str, str]:
    """Return the explanation of each figure."""
    notes = {
        "tokens_per_second": "output pieces of the system's own vocabulary, on one thread",
        "latency_ms": f"{config.latency_sentences} sentences, each translated alone on one thread: median and 99th "
        f"percentile",
        "memory_megabytes": "peak of model and buffers, without libraries",
        "load_seconds": "from files to a model that is ready, with libraries already loaded",
    }
    if cores > 1:
        notes["all_cores"] = f"the same on {cores} cores"
    return notes
