"""The probe's own process: runs a recipe's stages in miniature, one after the other, and notes what each took.

`python -m kd.planning.pieces FOLDER PARENT`, with a `request.json` and a sample of text in it; leaves `measured.json`
there, and ends with the process of the id PARENT.
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

from kd.base.files import write_json
from kd.base.processes import die_with_parent
from kd.corpora.shards import Corpus
from kd.pipeline.execute import execute
from kd.pipeline.model import Stage, Task
from kd.pipeline.plan import Plan
from kd.pipeline.store import Store
from kd.planning.assumptions import Assumptions
from kd.planning.figures import Figure
from kd.planning.made_up import made_up_lists, warm_up
from kd.planning.probe import FAILED
from kd.planning.rates import BYTES, START, TRAININGS, Observation, lengths, manifests, of_speed, of_training
from kd.planning.shortening import DECODED_OPERATIONS, SENTENCES, Size, affordable
from kd.planning.timing import IMPORTS, Clock, import_times, timed
from kd.planning.trainings import training_of
from kd.planning.volume import STEPS_A_PIECE, Text, Volume, models_behind, parts_of, weights
from kd.recipe import compose
from kd.recipe.schema import SearchConfig, TrainConfig

_LOG = logging.getLogger(__name__)

HELD_OUT = 128
SMALLEST_VOCABULARY = 300
AGAIN = ("evaluate",)  # kinds that spend more on models of languages, once, than on some hundred segments
_COMPILED = 1.5  # seconds: a kernel that was compiled before is read from a cache


def main(folder: Path) -> None:
    """Measures all that can be; what fails takes nothing away from the rest."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    imports = import_times()
    miniature = Miniature(folder, request)
    miniature.text_stages()
    if request["models"]:
        miniature.model_stages()
    measured = miniature.observations
    base = {"machine": "", "device": miniature.device, "threads": request["threads"], "source": ""}
    for kind in dict.fromkeys([*IMPORTS, *miniature.startup]):
        clocks = [imports[name] for name in IMPORTS.get(kind, ())] + [miniature.startup.get(kind, Clock())]
        seconds, cpu = sum(each.seconds for each in clocks), sum(each.cpu for each in clocks)
        measured.append(Observation(START + kind, 1, None, seconds, cpu, **base))
    result = {
        "observations": [each.to_json() for each in measured],
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
        self.device = str(self._config.machine.device)
        self._config.store.dir = str(folder / "store")
        self._store = Store(folder / "store")
        names = list(self._config.pairs)
        for name in names[1:]:  # one language pair says how fast all are
            del self._config.pairs[name]
        self._pairs = sum(1 for _ in (folder / "sample.source").open("rb"))
        # As many as the sample has text for; the models get the recipe's own number all the same.
        self.vocabulary = int(self._config.vocabulary.size)
        self._config.vocabulary.size = min(self.vocabulary, max(400, self._pairs // 4))
        self.kept: float | None = None
        self.lengths: dict[str, float | None] = {}
        self.observations: list[Observation] = []
        self.startup: dict[str, Clock] = {}
        self._done: set[str] = set()
        self._clocks: dict[Task, Clock] = {}
        sentences = affordable(compose.plan(self._config, frozen_files={}), self.vocabulary)
        held = max(2, min(HELD_OUT, sentences, self._pairs // 10))
        longest = int(self._config.encode.max_pieces)
        self._size = Size(folder, float(request["seconds"]), self.vocabulary, longest, sentences, held)

    # --- the stages ----------------------------------------------------------------------------------------------

    def text_stages(self) -> None:
        """Collect to encode, selection, and what the lengths of the text are."""
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
        """Collect to encode; returns whether the vocabulary found enough text for its size."""
        for stage in plan.stages:
            if stage.kind.name in (*TRAININGS, "given_models", "decode", "given_lists") or not self._can_run(stage):
                continue
            self._run(stage)
            if stage.kind.name == "vocabulary":
                self._pad(stage)
        tasks = [task for stage in plan.stages if stage.kind.name == "vocabulary" for task in stage.tasks]
        return all(self._store.paths(task).is_published() for task in tasks)

    def _selection(self, plan: Plan) -> None:
        """Selection from made-up lists: those that can be decoded in a minute are too few to see its speed."""
        for stage in plan.stages:
            if stage.kind.name == "decode" and (corpus := self._corpus_of(stage)) is not None:
                place = self._store.paths(stage.tasks[0]).final
                members = max(1, len(stage.input_tasks("teachers")))
                hypotheses, left = made_up_lists(corpus, place, stage.config.nbest, members)
                write_json(place / "manifest.json", {"counts": {"hypotheses": hypotheses}, "facts": {}, "bytes": left})
                effort = self._pair_bytes / 2 * stage.config.nbest
                size = Observation(BYTES + "decode", float(corpus.pairs), effort, float(left), None, **self._where)
                self.observations.append(size)
        for stage in plan.stages:
            if stage.kind.name == "select" and self._can_run(stage):
                with timed() as clock:
                    warm_up(stage.config)
                self.startup["select"] = Clock(min(_COMPILED, clock.seconds), min(_COMPILED, clock.cpu))
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

    @property
    def _where(self) -> dict[str, Any]:
        return {"machine": "", "device": self.device, "threads": self._threads, "source": ""}

    def model_stages(self) -> None:
        """Trainings, decoding, and what comes after them."""
        plan = self._plan()
        for stage in plan.stages:
            if self._can_run(stage):
                self._run(stage)
        self._observe_all(plan)
        self._validations(plan)

    def _can_run(self, stage: Stage) -> bool:
        """Whether all that it reads from is there."""
        upstream = [other for task in stage.tasks for other in task.upstream()]
        return all(self._store.paths(other).is_published() for other in upstream)

    def _run(self, stage: Stage) -> None:
        for task in stage.tasks:
            if self._store.paths(task).is_published() or self._took_over(task):
                continue
            try:
                with timed() as clock:
                    execute(task, self._store, threads=self._threads, device=self.device, machine={})
            except Exception as error:  # a probe says what it can
                print(f"{task.full_name} {FAILED}: {_one_line(error)}", flush=True)
                return
            self._clocks[task] = clock
            if stage.kind.name in TRAININGS:
                self._silence_end(task)
            elif stage.kind.name in AGAIN:
                self._clocks[task] = self._again(task, clock)

    def _again(self, task: Task, first: Clock) -> Clock:
        """Runs a task a second time: what only the first took, whatever there is to do, is the start of its kind."""
        shutil.rmtree(self._store.paths(task).final)
        with timed() as second:
            execute(task, self._store, threads=self._threads, device=self.device, machine={})
        begun = Clock(max(0.0, first.seconds - second.seconds), max(0.0, first.cpu - second.cpu))
        self.startup.setdefault(task.stage.kind.name, begun)
        return second

    def _plan(self) -> Plan:
        return compose.plan(self._config, change=self._size.of)

    # --- tricks --------------------------------------------------------------------------------------------------

    def _pad(self, stage: Stage) -> None:
        """Gives the vocabulary the recipe's size, by pieces that never occur: the output layer has to be that wide."""
        from kd.models.vocabulary import DICTIONARY

        folder = self._store.paths(stage.tasks[0]).final
        here = int(self._config.vocabulary.size)
        if here >= self.vocabulary or not folder.is_dir():
            return
        more = [f"\u2062{number}" for number in range(self.vocabulary - here)]
        with (folder / DICTIONARY).open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{piece} 1\n" for piece in more)

    def _took_over(self, task: Task) -> bool:
        """A member whose sister is trained, a control beside its student: their models cost and weigh the same."""
        if task.stage.kind.name != "train":
            return False
        for other in self._clocks:
            if other.stage.kind.name == "train" and _alike(other.stage.config, task.stage.config):
                place = self._store.paths(task).final
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(self._store.paths(other).final, place, copy_function=_link)
                return True
        return False

    def _silence_end(self, task: Task) -> None:
        """Hardly trained, a model ends at once or never; without an end, the limit says how long translations get."""
        import torch

        from kd.engines.fairseq.average import load

        path = self._store.paths(task).final / "model.pt"
        state = load(path)
        for name, tensor in state["model"].items():
            if name.endswith(("embed_tokens.weight", "output_projection.weight")):
                tensor[2] = 0.0  # </s>: its score is 0, and others are above that
        torch.save(state, path)

    # --- what it tells -------------------------------------------------------------------------------------------

    def _volume(self, sample: Text) -> Volume:
        kept = Figure(self.kept or 1.0)
        return Volume(Assumptions({}), self.vocabulary, kept, sample, held_out=self._size.held, dev=self._size.held)

    def _measure_text(self, plan: Plan) -> None:
        found = manifests(plan, self._store)
        for task, manifest in found.items():
            if task.stage.kind.name == "clean":
                self.kept = manifest["counts"]["pairs out"] / max(1, manifest["counts"]["pairs in"])
        text = lengths(plan, found)
        self.lengths = {
            "pair_bytes": self._pair_bytes,
            "source_pieces": text.source_pieces.value,
            "target_pieces": text.target_pieces.value,
        }
        if text.target_pieces.value is not None:
            steps = STEPS_A_PIECE * (text.target_pieces.value + 1)
            self.lengths["steps"] = steps
            self._size.steps = max(2, math.ceil(steps))

    def _observe_all(self, plan: Plan) -> None:
        """Observations of all tasks that have run, with the seconds of this process."""
        found = manifests(plan, self._store)
        sample = Text(**{name: Figure(value) for name, value in self.lengths.items()})
        if self._size.steps:
            sample = replace(sample, steps=Figure(float(self._size.steps)))
        volume = self._volume(sample)
        volume.manifests = found
        for stage in plan.stages:
            volume.follow(stage)
        for task, clock in self._clocks.items():
            # Of a stage that ran twice, the first time had more to do: selection, from made-up lists.
            if task in found and task.full_name not in self._done:
                self._done.add(task.full_name)
                self.observations += self._observed(task, clock, found[task], volume)

    def _observed(self, task: Task, clock: Clock, manifest: Mapping[str, Any], volume: Volume) -> Iterator[Observation]:
        parts = parts_of(task, volume)
        where, kind = self._where, task.stage.kind.name
        if not parts or not parts[0].amount.value:
            return
        if kind == "speed":
            for each in of_speed(self._store.paths(task).final, parts, where):
                yield replace(each, cpu_seconds=each.seconds * clock.cpu / max(1e-9, clock.seconds))
        if kind in TRAININGS:
            busy = clock.cpu / max(1e-9, clock.seconds)
            for each in of_training(self._store.paths(task).final, parts, manifest, where):
                yield replace(each, cpu_seconds=each.seconds * busy)
            rest = max(0.0, clock.seconds - _trained(self._store.paths(task).final))
            self.startup[kind] = Clock(rest, rest * busy)
            return
        amount = float(manifest["counts"].get("sources", parts[0].amount.value))
        if kind != "decode":
            yield Observation(BYTES + kind, amount, parts[0].effort, float(manifest["bytes"]), None, **where)
        if len(parts) == 1:
            yield Observation(parts[0].name, amount, parts[0].effort, clock.seconds, clock.cpu, **where)

    def _validations(self, plan: Plan) -> None:
        """Greedy translation as trainings do it, by fairseq's own search, of each shape of model."""
        from kd.engines.fairseq.translate import EnsembleTranslator
        from kd.models.vocabulary import Vocabulary

        sources = (self._folder / "sample.source").read_text("utf-8").split("\n")[:SENTENCES]
        for task in [task for task in self._clocks if task.stage.kind.name in TRAININGS]:
            folder = self._store.paths(task).final
            config = training_of(task)
            assert config is not None
            translator = EnsembleTranslator(
                [folder], Vocabulary(folder), beam=1, max_pieces=self._size.steps, batch_tokens=config.batch.max_tokens,
                threads=self._threads, device=self.device, score_members=False, engine="stock",
            )  # fmt: skip
            few = sources[: max(8, min(len(sources), self._sentences_of(task)))]
            with timed() as clock:
                translator.translate(few)
            sample = Text(**{name: Figure(value) for name, value in self.lengths.items()})
            sample = replace(sample, steps=Figure(float(self._size.steps)))
            (_, part) = _train_parts(task, self._volume(sample))
            taken = Observation("validate", len(few), part.effort, clock.seconds, clock.cpu, **self._where)
            self.observations.append(taken)

    def _sentences_of(self, task: Task) -> int:
        (model,) = models_behind([task])
        return int(DECODED_OPERATIONS / (2 * weights(model, self._volume(Text())) * max(1, self._size.steps)))


def _train_parts(task: Task, volume: Volume) -> list[Any]:
    """With a validation, which a short training goes without."""
    config = task.stage.config
    if isinstance(config, SearchConfig):
        config = replace(config, changes={"validate_bleu": True})
    else:
        config = replace(config, validate_bleu=True)
    entry = replace(task.stage.spec, config=config)
    stage = Stage(task.stage.name, entry, task.stage.axis, task.stage.axis_value, {}, tasks=[task])
    short = Task(stage, task.name, task.fingerprint, task.lineage, task.identity, task.inputs, task.files)
    parts = parts_of(short, volume)
    assert parts is not None
    return parts


def _alike(one: TrainConfig, other: TrainConfig) -> bool:
    return (one.model, one.batch, one.precision) == (other.model, other.batch, other.precision)


def _trained(folder: Path) -> float:
    """Seconds between the first and the last update."""
    from kd.engines.fairseq.training import METRICS, read_metrics

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
