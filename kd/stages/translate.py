"""Translate: translate the held-out sets with every system: teachers, ensemble, student, control, exports.

The output is plain text, one line per segment. Given outputs of external systems, for the same test sources, are copied
unchanged. The robustness suite (`kd/corpora/robustness.py`) is translated after the test sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.estimate import Estimate
from kd.base.records import plain
from kd.corpora.heldout import read_heldout
from kd.corpora.index import read_json, write_json
from kd.corpora.lines import check_file, open_lines, open_text
from kd.corpora.robustness import read_cases, size, suite, write_cases
from kd.corpora.writing import LineWriter
from kd.engines.loading import Decoding, Translates, load
from kd.models.known import Known, translation
from kd.models.systems import System, systems_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import HeldOut, TranslateConfig
from kd.recipe.schema.running import SystemRole
from kd.stages import asking
from kd.stages.outputs import HYPOTHESES, ROBUSTNESS_CASES

GIVEN = "given"
ASKED = "asked.json"  # counts of requests and tokens, of a teacher behind a server


class Translate(Kind[TranslateConfig]):
    """Translate held-out sets."""

    name = "translate"
    version = 1
    config = TranslateConfig
    imports = ("torch", "fairseq")
    roles: ClassVar = {"held_out": Role(), "systems": Role(many=True)}
    resources = "decode"
    uses_gpus = True

    def asks(self, stage: Stage) -> str | None:
        """Return the address of the server that a teacher is behind."""
        return asking.address_of(stage, "systems")

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task per system; given outputs are identified by their content."""
        config: TranslateConfig = stage.config
        identity, extent = identity_and_extent(config)
        if not _with_suite(config):
            identity.pop("robustness", None)
        held_out = stage.input_tasks("held_out")
        systems = systems_of(stage.input_tasks("systems"), config.ensembles)
        for system, items in systems.items():
            inputs = {"held_out": held_out, "systems": items}
            yield TaskSpec(system.name, identity, extent, inputs, subject=plain(system))
        titles = {system.title for system in systems}
        for name in config.given if config.set is HeldOut.test else ():
            external = System(SystemRole.external, name, engine="")
            if external.title in titles:
                raise UserError(
                    f"evaluate.given.{name} has the same name as a system of the run.", "Give it another name."
                )
            files = partial(_files, config, name, stage.axis_value)
            yield TaskSpec(name, {GIVEN: True}, inputs={"held_out": held_out}, files=files, subject=plain(external))

    def run(self, job: Job[TranslateConfig]) -> None:
        """Translate with the system, or copy the given output."""
        if job.identity.get(GIVEN):
            _take_over(job)
            return
        sources = [pair.source for pair in read_heldout(job.one("held_out").path, str(job.axis), job.config.set.value)]
        to = job.axis_value.get("target")
        decoding = Decoding(job.config.beam, job.config.max_pieces, job.config.batch_tokens, to)
        job.progress.update("loading")
        system = _System(job, decoding)
        outputs = system.translate(sources, "translating")
        with LineWriter(job.out / HYPOTHESES) as writer:
            for output in outputs:
                writer.write(output)
        if _with_suite(job.config):
            # Apart from the test set: the sentences of a batch can change each other's translations in the last bits.
            robust = job.config.robustness
            cases = suite(sources, str(job.axis_value.get("source") or ""), robust.sentences, robust.seed)
            outputs = system.translate([case.source for case in cases], "translating the robustness suite")
            found = (replace(case, output=output) for case, output in zip(cases, outputs, strict=True))
            write_cases(job.out / ROBUSTNESS_CASES, found)
        system.write_counts()

    def check(self, job: Job[TranslateConfig]) -> Summary:
        """Check that there is a line for each segment."""
        segments = len(read_heldout(job.one("held_out").path, str(job.axis), job.config.set.value))
        lines = sum(1 for _ in open_lines(job.out / HYPOTHESES))
        if lines != segments:
            raise IncompleteArtifact(f"{job.out / HYPOTHESES} has {lines} lines for {segments} segments.")
        if job.identity.get(GIVEN):
            return Summary({"segments": segments}, facts={"note": "made elsewhere"})
        facts = read_json(job.out / ASKED) if (job.out / ASKED).is_file() else {}
        if not _with_suite(job.config):
            return Summary({"segments": segments}, facts=facts)
        cases = read_cases(job.out / ROBUSTNESS_CASES)
        return Summary({"segments": segments, "inputs of the robustness suite": len(cases)}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the sentences of the set."""
        tasks = {}
        sentences = known.held_out(stage.config.set)
        if _with_suite(stage.config):
            sentences += size(min(stage.config.robustness.sentences, sentences))
        for task in stage.tasks:
            items = task.inputs.get("systems", [])
            work = translation(self.name, items, sentences, known, stage.config.beam, "decode")
            if teacher := next((found for item in items if (found := asking.served(item))), None):
                work = asking.asking_work(teacher[1], work.amount, known.sample)
            tasks[task.name] = TaskWork((work,), allowance=5e6)
        count = Estimate(sentences, "config")
        return StageForecast(tasks, asked=asking.expect(stage, "systems", known, known.sample, count, 1))


def _with_suite(config: TranslateConfig) -> bool:
    """Return whether the robustness suite is translated: with test sets, not where dev sets choose an architecture."""
    return config.robustness.enabled and config.set is HeldOut.test


class _System:
    """The system of a task: models that are loaded once, or a teacher behind a server."""

    def __init__(self, job: Job[TranslateConfig], decoding: Decoding) -> None:
        self._job, self._counts = job, Counter[str]()
        self._endpoint = asking.endpoint_of(job.inputs["systems"])
        self._models: Translates | None = None
        if not self._endpoint:
            folders = [artifact.path for artifact in job.inputs["systems"]]
            self._models = load(folders, decoding, threads=job.threads, device=job.device)

    def translate(self, sources: Sequence[str], doing: str) -> list[str]:
        """Translate each source to one line; `doing` is shown with the progress."""

        def report(done: int, total: int) -> None:
            self._job.progress.update(doing, done, total, "sentences")

        if self._models:
            outputs = self._models(sources, report)
        else:
            assert self._endpoint is not None
            outputs, counts = asking.translate(self._endpoint, sources, self._job.config.max_pieces, report)
            self._counts.update(counts)
        return [output.replace("\n", " ") for output in outputs]  # with byte tokens a model may write a line break

    def write_counts(self) -> None:
        """Write the counts of requests and tokens, and their price, if a server was used."""
        if self._endpoint:
            counts = dict(self._counts)
            write_json(self._job.out / ASKED, counts | asking.price_facts(counts, self._endpoint))


def _files(config: TranslateConfig, name: str, languages: Mapping[str, str]) -> list[Path]:
    path = config.given[name]
    for side, code in languages.items():  # str.format would fail for other braces in a path
        path = path.replace(f"{{{side}}}", code)
    place = Path(config.root or ".", Path(path).expanduser())
    try:
        check_file(place)
    except UserError as error:
        raise UserError(error.problem, f"Correct evaluate.given.{name}.") from None
    return [place]


def _take_over(job: Job[TranslateConfig]) -> None:
    """Copy the output of an external system. Raise UserError unless it has a line for each segment."""
    (path,) = _files(job.config, job.name, job.axis_value)
    if job.hash_file(path) != job.files.get(path):
        raise UserError(f"{path} has changed since the run was planned.", "Plan it again with `kd run`.")
    segments = len(read_heldout(job.one("held_out").path, str(job.axis), "test"))
    with LineWriter(job.out / HYPOTHESES) as writer:
        for line in open_text(path):
            writer.write(line)
    if writer.lines != segments:
        raise UserError(
            f"{path} (evaluate.given.{job.name}) has {writer.lines:,} lines, and the test sets of {job.axis} have "
            f"{segments:,} segments.",
            f"Translate all of the run's split/all/{job.axis}/test.source, one output line per input line.",
        )
