"""Soften: compute the teachers' token distributions for an encoded corpus, once for all students and passes.

Otherwise a student with word-level distillation (`student.distill`) runs all teachers in every update. The ensemble's
`top` most probable tokens are stored for each target position (`kd/engines/fairseq/distributions.py`). In data of
several language pairs, each sentence is processed by the teachers of its pair. Blocks of sentences are the unit of
restart; each worker is a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.estimate import Estimate
from kd.base.processes import Tick, Workers
from kd.base.world import gpu_counter, take_next_gpu
from kd.engines.fairseq.distributions import blocks_in, row_bytes
from kd.engines.fairseq.soften import Part, Softener, Softening, is_done, parts
from kd.models.files import DICTIONARY
from kd.models.known import Known, equal_tasks
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import Sharing, StageForecast, TaskWork, Work
from kd.pipeline.model import Input, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import SoftenConfig
from kd.stages.teachers import check_softened, first_members, forward_flops, require_vocabulary

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


class Soften(Kind[SoftenConfig]):
    """Store the most probable tokens of each target position."""

    name = "soften"
    version = 1
    config = SoftenConfig
    roles: ClassVar = {"data": Role(), "teachers": Role(many=True)}
    imports = ("torch", "fairseq")
    needs_models = True
    resources = "decode"
    uses_gpus = True
    resumable = True

    def validate(self, config: SoftenConfig) -> None:
        """Raise UserError if the number of tokens is not set."""
        if config.top < 1:
            raise UserError(
                f"soften.top is {config.top}, but stored distributions need a fixed number of tokens.",
                "Set student.distill.top to 8, or student.distill.stored=false.",
            )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task per worker. The number of workers is fixed, so the tasks follow from the config alone."""
        check_softened(stage)
        identity, extent = identity_and_extent(stage.config)
        by_pair: dict[str, list[Input]] = {}
        for item in stage.input_tasks("teachers"):
            by_pair.setdefault(str(item.task.stage.axis), []).append(item)
        teachers = [
            item for items in by_pair.values() for item in first_members(items, stage.config.members, "soften.members")
        ]
        inputs = {"data": stage.input_tasks("data"), "teachers": teachers}
        for worker in range(stage.config.workers):
            yield TaskSpec(f"worker-{worker}", {**identity, "worker": worker}, extent, inputs)

    def run(self, job: Job[SoftenConfig]) -> None:
        """Compute the worker's blocks that are missing or incomplete."""
        require_vocabulary(job.inputs["teachers"], job.one("data"))
        softening = _softening(job)
        todo = _parts(job, softening)
        total = sum(part.count for part in todo)
        missing = sorted((part for part in todo if not is_done(part, job.out)), key=lambda part: part.pair)
        done = total - sum(part.count for part in missing)
        processes = min(job.world.workers(job.device), max(1, len(missing)))

        def tell(more: int) -> None:
            job.progress.update("computing distributions", done + more, total, "sentences")

        with Workers(processes, _init_worker, softening, job.out, gpu_counter(processes)) as workers:
            for _ in workers.map(_Writer.write, missing, tell):
                pass

    def check(self, job: Job[SoftenConfig]) -> Summary:
        """Read every block back; check that all positions are present and each row is a distribution."""
        todo = _parts(job, _softening(job))
        if [part.block for part in todo] != blocks_in(job.out):
            raise IncompleteArtifact(f"{job.out} does not have the expected blocks.")
        for part in todo:
            part.block.check(job.out)
        size = sum(path.stat().st_size for path in job.out.iterdir())
        counts: dict[str, int | float] = {
            "sentences": sum(part.count for part in todo),
            "target pieces": sum(part.block.pieces for part in todo),
            "tokens a piece": job.config.top,
            "megabytes": round(size / 1e6, 1),
        }
        return Summary(counts, facts={"members": len(job.inputs["teachers"]), "devices": job.world.workers(job.device)})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast one forward pass of each teacher over the targets, and the size of the stored rows."""
        text = known.input(stage, "data")
        length = Estimate(None if text.target_tokens.value is None else text.target_tokens.value + 1, "")
        pieces = text.pairs.times(length).times(1 / len(stage.tasks))
        cost = forward_flops(known.models(item.task for item in stage.input_tasks("teachers")), text, known)
        pairs = len({teacher.axis for _, teacher in stage.inputs["teachers"]})  # a sentence is read by its pair's alone
        cost = None if cost is None else cost / pairs
        work = Work(self.name, "target tokens", pieces, cost, Sharing.gpus, "decode")
        size = row_bytes(stage.config.top, known.vocabulary)
        rows = replace(pieces.times(size), source=f"{size} bytes per target token")
        return equal_tasks(stage, TaskWork((work,), kept=rows))


def _softening(job: Job[SoftenConfig]) -> Softening:
    data = job.one("data").path
    teachers: dict[str, tuple[Path, ...]] = {}
    for artifact in job.inputs["teachers"]:
        teachers[str(artifact.axis)] = (*teachers.get(str(artifact.axis), ()), artifact.path)
    return Softening(
        data=data,
        teachers=teachers,
        dictionary=data / DICTIONARY,
        top=job.config.top,
        temperature=job.config.temperature,
        batch_tokens=job.config.batch_tokens,
        device="cpu" if job.device == "cpu" else "cuda",
        threads=max(1, job.threads // job.world.workers(job.device)),
        tags=bool(job.one("data").settings.get("tags")),
    )


def _parts(job: Job[SoftenConfig], softening: Softening) -> list[Part]:
    """Return this worker's parts, in the order of `blocks_in`."""
    found = parts(softening, job.identity["worker"], job.config.workers, job.config.shard)
    return sorted(found, key=lambda part: (part.block.store, part.block.first))


@dataclass(frozen=True)
class _Writer:
    """The teachers of one process, and the folder that it writes to."""

    softener: Softener
    out: Path

    def write(self, part: Part, tick: Tick) -> None:
        """Compute and write one block."""
        self.softener.write(part, self.out, tick)


def _init_worker(softening: Softening, out: Path, next_gpu: Synchronized[int] | None) -> _Writer:
    """Load the teachers; each of several processes takes its own GPU. `next_gpu`: counter of assigned GPUs."""
    take_next_gpu(next_gpu, softening.device)
    return _Writer(Softener(softening), out)
