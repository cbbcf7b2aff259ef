"""The process of a probe: runs a recipe's stages in miniature, one after the other, and measures each.

`python -m kd.planning.probe_worker FOLDER PARENT` reads `request.json` and a sample of text in FOLDER, writes
`measured.json` there, and ends with the process whose id is PARENT.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.base.estimate import Estimate
from kd.base.files import read_object, write_json
from kd.base.hashing import sha256
from kd.base.processes import die_with_parent
from kd.corpora.shards import Corpus
from kd.engines.fairseq.forecast import validation
from kd.models.known import STEPS_A_TOKEN, Known, Text
from kd.pipeline.execute import execute
from kd.pipeline.forecast import Spent
from kd.pipeline.model import Stage, Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import BLANK_MANIFEST, MANIFEST, Store
from kd.planning.probe import FAILED
from kd.planning.rates import BYTES, START, Observation, bytes_observation, lengths, manifests
from kd.planning.shortening import SENTENCES, Size, affordable, decoded_sentences, micro_batch
from kd.planning.synthetic import made_up_lists, warm_up
from kd.planning.timing import Clock, import_times, timed
from kd.recipe import compose
from kd.recipe.schema import CleanConfig, DecodeConfig, SelectConfig, TrainConfig, VocabularyConfig
from kd.stages import KINDS, load_kind
from kd.stages.grid import budget

_LOG = logging.getLogger(__name__)

HELD_OUT = 128
VALIDATED_TOKENS = 4096  # of a batch in a validation, where the device decides
SMALLEST_VOCABULARY = 300
_COMPILED = 1.5  # seconds: a kernel that was compiled before is read from a cache


def main(folder: Path) -> None:
    """Measure all stages that can run; a stage that fails does not stop the others."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    imports = import_times()
    miniature = Miniature(folder, request)
    miniature.text_stages()
    if request["models"]:
        miniature.model_stages()
    measured = miniature.observations
    for name in KINDS:
        packages = load_kind(name).imports
        if packages or name in miniature.startup:
            clocks = [*(imports[package] for package in packages), miniature.startup.get(name, Clock())]
            seconds, cpu = sum(each.seconds for each in clocks), sum(each.cpu for each in clocks)
            measured.append(Observation(START + name, 1, None, seconds, cpu, **miniature.where))
    result = {
        "observations": [vars(each) for each in measured],
        "kept": miniature.kept,
        "lengths": {name: value for name, value in miniature.lengths.items() if value is not None},
    }
    (folder / "measured.json").write_text(json.dumps(result), "utf-8")


class Miniature:
    """The recipe on a few pairs."""

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = compose.thaw(request["config"])
        self._threads = int(request["threads"])
        self._device = str(self._config.machine.device)
        self.where: dict[str, Any] = {"machine": "", "device": self._device, "threads": self._threads, "source": ""}
        self._config.store.dir = str(folder / "store")
        self._store = Store(folder / "store")
        for name in list(self._config.pairs)[1:]:  # one language pair shows the speed of all
            del self._config.pairs[name]
        self._pairs = sum(1 for _ in (folder / "sample.source").open("rb"))
        # As many tokens as the sample has text for; the models get the recipe's own number all the same.
        self.vocabulary = int(self._config.vocabulary.size)
        self._config.vocabulary.size = min(self.vocabulary, max(400, self._pairs // 4))
        self.kept: float | None = None
        self.lengths: dict[str, float | None] = {}
        self.observations: list[Observation] = []
        self.startup: dict[str, Clock] = {}
        self._done: set[str] = set()
        self._clocks: dict[Task, Clock] = {}
        sentences = affordable(self._decodings(compose.plan(self._config, frozen_files={})))
        held = max(2, min(HELD_OUT, sentences, self._pairs // 10))
        longest = int(self._config.encode.max_pieces)
        self._size = Size(folder, float(request["seconds"]), self.vocabulary, longest, sentences, held)

    def _decodings(self, plan: Plan) -> Iterator[tuple[int, int]]:
        """Yield parameters and beam of each decoding."""
        known = self._known(plan, Text())
        for stage in plan.stages:
            if isinstance(stage.config, DecodeConfig):
                models = known.models(item.task for item in stage.input_tasks("teachers"))
                yield sum(map(known.parameters, models)), stage.config.beam

    # --- the stages ----------------------------------------------------------------------------------------------

    def text_stages(self) -> None:
        """Run `collect` to `encode` and selection, and measure the lengths of the text."""
        while not self._text(plan := self._plan()) and self._config.vocabulary.size > SMALLEST_VOCABULARY:
            self._config.vocabulary.size = max(SMALLEST_VOCABULARY, self._config.vocabulary.size // 2)
        self._size.lists_made_up = True
        made_up = self._plan()
        self._selection(made_up)
        self._size.lists_made_up = False
        self._measure_text(plan)
        self._observe_all(plan)
        self._observe_all(made_up)

    def _text(self, plan: Plan) -> bool:
        """Run `collect` to `encode`; return whether there was enough text for a vocabulary of this size."""
        for stage in plan.stages:
            if stage.kind.needs_models or not self._can_run(stage):
                continue
            self._run(stage)
            if isinstance(stage.config, VocabularyConfig):
                self._pad(stage)
        tasks = [task for stage in plan.stages if isinstance(stage.config, VocabularyConfig) for task in stage.tasks]
        return all(self._store.paths(task).is_published() for task in tasks)

    def _selection(self, plan: Plan) -> None:
        """Run selection on synthetic lists: a minute of decoding yields too few to measure selection's speed."""
        for stage in plan.stages:
            if isinstance(stage.config, DecodeConfig) and (corpus := self._corpus_of(stage)) is not None:
                place = self._store.paths(stage.tasks[0]).final
                members = max(1, len(stage.input_tasks("teachers")))
                hypotheses, left = made_up_lists(corpus, place, stage.config.nbest, members)
                counts = {"hypotheses": hypotheses}
                write_json(place / MANIFEST, {**BLANK_MANIFEST, "counts": counts, "bytes": left})
                cost = self._pair_bytes / 2 * stage.config.nbest
                name = BYTES + stage.kind.name
                size = Observation(name, float(corpus.pairs), cost, float(left), None, **self.where)
                self.observations.append(size)
        for stage in plan.stages:
            if isinstance(stage.config, SelectConfig) and self._can_run(stage):
                with timed() as clock:
                    warm_up(stage.config)
                self.startup[stage.kind.name] = Clock(min(_COMPILED, clock.seconds), min(_COMPILED, clock.cpu))
                self._run(stage)

    @property
    def _pair_bytes(self) -> float:
        sides = [(self._folder / f"sample.{side}").stat().st_size for side in ("source", "target")]
        return sum(sides) / max(1, self._pairs)

    def _corpus_of(self, stage: Stage) -> Corpus | None:
        places = [self._store.paths(item.task) for item in stage.input_tasks("corpus")]
        if not places or not all(place.is_published() for place in places):
            return None
        return Corpus.join(place.final for place in places)

    def model_stages(self) -> None:
        """Run trainings, decoding, and all later stages."""
        plan = self._plan()
        for stage in plan.stages:
            if self._can_run(stage):
                self._run(stage)
        self._observe_all(plan)
        self._validations(plan)

    def _can_run(self, stage: Stage) -> bool:
        """Return whether all inputs exist and no server is used, since its answers may cost money."""
        if stage.kind.asks(stage):
            return False
        upstream = [other for task in stage.tasks for other in task.upstream()]
        return all(self._store.paths(other).is_published() for other in upstream)

    def _run(self, stage: Stage) -> None:
        for task in stage.tasks:
            if self._store.paths(task).is_published() or self._took_over(task):
                continue
            try:
                with timed() as clock:
                    execute(task, self._store, threads=self._threads, device=self._device, machine={})
            except Exception as error:  # a probe measures what it can
                print(f"{task.full_name} {FAILED}: {_one_line(error)}", flush=True)
                return
            self._clocks[task] = clock
            if stage.kind.trains:
                self._silence_end(task)
            elif stage.kind.loads_once:
                self._clocks[task] = self._again(task, clock)

    def _again(self, task: Task, first: Clock) -> Clock:
        """Run a task again: the difference from the first time is the start-up time of its kind, whatever its work."""
        shutil.rmtree(self._store.paths(task).final)
        with timed() as second:
            execute(task, self._store, threads=self._threads, device=self._device, machine={})
        begun = Clock(max(0.0, first.seconds - second.seconds), max(0.0, first.cpu - second.cpu))
        self.startup.setdefault(task.stage.kind.name, begun)
        return second

    def _plan(self) -> Plan:
        return compose.plan(self._config, change=self._size.of)

    # --- adjustments --------------------------------------------------------------------------------------------------

    def _pad(self, stage: Stage) -> None:
        """Pad the vocabulary to the recipe's size with tokens that never occur, so that the output layer is as wide."""
        from kd.models.files import DICTIONARY

        folder = self._store.paths(stage.tasks[0]).final
        here = int(self._config.vocabulary.size)
        if here >= self.vocabulary or not folder.is_dir():
            return
        more = [f"\u2062{number}" for number in range(self.vocabulary - here)]
        with (folder / DICTIONARY).open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{piece} 1\n" for piece in more)

    def _took_over(self, task: Task) -> bool:
        """Link the output of an equal training, such as another member; return whether there is one."""
        if not isinstance(task.stage.config, TrainConfig):
            return False
        for other in self._clocks:
            if isinstance(other.stage.config, TrainConfig) and _alike(other.stage.config, task.stage.config):
                place = self._store.paths(task).final
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(self._store.paths(other).final, place, copy_function=_link)
                return True
        return False

    def _silence_end(self, task: Task) -> None:
        """Make a model never end a sentence, so that the limit sets the length of its translations."""
        import torch

        from kd.engines.fairseq.loading import load

        place = self._store.paths(task).final
        path = place / "model.pt"
        state = load(path)
        for name, tensor in state["model"].items():
            if name.endswith(("embed_tokens.weight", "output_projection.weight")):
                tensor[2] = 0.0  # </s>: its score is 0, and others are above that
        torch.save(state, path)
        manifest = read_object(place / MANIFEST)
        manifest["files"]["model.pt"] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        write_json(place / MANIFEST, manifest)  # weights are compared with it before they are used

    # --- results -----------------------------------------------------------------------------------------------------

    def _known(self, plan: Plan, sample: Text, done: Mapping[Task, Mapping[str, Any]] | None = None) -> Known:
        held = self._size.held if hasattr(self, "_size") else HELD_OUT
        kept = Estimate(self.kept or 1.0)
        known = Known(self.vocabulary, kept, sample, test=held, dev=held, done=done or {})
        for stage in plan.stages:
            known.add(stage)
        return known

    def _sample(self) -> Text:
        """Return the lengths of the sample, with the limit on the steps of a search."""
        sample = Text(**{name: Estimate(value) for name, value in self.lengths.items()})
        return replace(sample, steps=Estimate(float(self._size.steps))) if self._size.steps else sample

    def _measure_text(self, plan: Plan) -> None:
        found = manifests(plan, self._store)
        for task, manifest in found.items():
            if isinstance(task.stage.config, CleanConfig):
                self.kept = manifest["counts"]["pairs out"] / max(1, manifest["counts"]["pairs in"])
        text = lengths(found)
        self.lengths = {
            "pair_bytes": self._pair_bytes,
            "source_tokens": text.source_tokens.value,
            "target_tokens": text.target_tokens.value,
        }
        if text.target_tokens.value is not None:
            steps = STEPS_A_TOKEN * (text.target_tokens.value + 1)
            self.lengths["steps"] = steps
            self._size.steps = max(2, math.ceil(steps))

    def _observe_all(self, plan: Plan) -> None:
        """Add the observations of all tasks that have run, with the seconds measured in this process."""
        found = manifests(plan, self._store)
        known = self._known(plan, self._sample(), found)
        for task, clock in self._clocks.items():
            # Of a stage that ran twice, keep the first time, with more work: selection, from synthetic lists.
            if task in found and task.full_name not in self._done:
                self._done.add(task.full_name)
                self.observations += self._observed(task, clock, found[task], known)

    def _observed(self, task: Task, clock: Clock, manifest: Mapping[str, Any], known: Known) -> Iterator[Observation]:
        work, folder, kind = known.work(task), self._store.paths(task).final, task.stage.kind
        if work is None or not work.has_amount:
            return
        busy = clock.cpu / max(1e-9, clock.seconds)
        for spent in kind.spent(folder, {**manifest, "seconds": clock.seconds, "cpu_seconds": clock.cpu}, work):
            amount = float(manifest["counts"].get("sources", spent.amount))  # fewer are decoded than forecast
            spent = replace(spent if spent.cpu_seconds else spent.with_cpu(busy), amount=amount)
            yield Observation.of_work(spent, self.where)
        if kind.trains:
            rest = max(0.0, clock.seconds - _trained(folder))
            self.startup[kind.name] = Clock(rest, rest * busy)
        elif not isinstance(task.stage.config, DecodeConfig):
            yield bytes_observation(task, work, float(manifest["bytes"]), self.where)

    def _validations(self, plan: Plan) -> None:
        """Measure greedy translation with fairseq's own search, as trainings do it, for each shape of model."""
        from kd.engines.fairseq.translate import EnsembleTranslator
        from kd.models.vocabulary import Vocabulary

        sources = (self._folder / "sample.source").read_text("utf-8").split("\n")[:SENTENCES]
        known = self._known(plan, self._sample())
        for task in [task for task in self._clocks if task.stage.kind.trains]:
            folder, (model,) = self._store.paths(task).final, known.models([task])
            config = task.stage.config if isinstance(task.stage.config, TrainConfig) else budget(task.stage.config)
            translator = EnsembleTranslator(
                [folder], Vocabulary(folder), beam=1, max_pieces=self._size.steps,
                batch_tokens=micro_batch(config, VALIDATED_TOKENS),
                threads=self._threads, device=self._device, score_members=False, engine="stock",
            )  # fmt: skip
            affordable = decoded_sentences(known.parameters(model), max(1, self._size.steps))
            few = sources[: max(8, min(len(sources), affordable))]
            with timed() as clock:
                translator.translate(few)
            work = validation(replace(config, model=model), Estimate(float(len(few))), known.sample, known)
            spent = Spent(work, float(len(few)), clock.seconds, clock.cpu)
            self.observations.append(Observation.of_work(spent, self.where))


def _alike(one: TrainConfig, other: TrainConfig) -> bool:
    return (one.model, one.batch, one.precision) == (other.model, other.batch, other.precision)


def _trained(folder: Path) -> float:
    """Return the seconds between the first and the last update."""
    from kd.models.training_log import METRICS, read_metrics

    entries = [float(each["seconds"]) for each in read_metrics(folder / METRICS)]
    return entries[-1] - entries[0] if len(entries) > 1 else 0.0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _link(source: str, target: str) -> str:
    os.link(source, target)
    return target


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    main(Path(sys.argv[1]))
