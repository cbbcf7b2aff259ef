"""The sizes of a recipe's texts and models before it runs, used by `Kind.forecast`.

`Text` describes a corpus at each stage of the chain. Model shapes come from the forecasts of earlier stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd.base.estimate import ALL, NOT_KNOWN, Estimate
from kd.models.transformer import MODEL_BYTES, parameter_count, training_flops, translation_flops
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Input, Stage, Task
from kd.recipe.schema import HeldOut, ModelConfig

# Steps of a beam search, as a multiple of the target's length with its end: a search goes on until it has as many
# hypotheses as its beam is wide. A finished sentence leaves the batch.
STEPS_A_TOKEN = 1.1
VALIDATED = "validation sentences"  # a unit of work


@dataclass(frozen=True)
class Text:
    """The size of a parallel corpus, as far as it is known."""

    pairs: Estimate = NOT_KNOWN
    source_tokens: Estimate = NOT_KNOWN  # of a sentence, its end not counted
    target_tokens: Estimate = NOT_KNOWN
    pair_bytes: Estimate = NOT_KNOWN  # text of both sides of a pair, not compressed
    steps: Estimate = NOT_KNOWN  # of a search, for one sentence

    @property
    def side_bytes(self) -> float | None:
        """Return the mean bytes of one side of a pair."""
        return None if self.pair_bytes.value is None else self.pair_bytes.value / 2


@dataclass
class Known:
    """The sizes of a recipe; `forecasts` and `texts` grow stage by stage, in the order of the plan.

    Attributes:
        kept: share of pairs that cleaning keeps.
        sample: lengths of the text that could be read.
        dev, test: sentences of the held-out sets.
        collected: full name of a task -> its sentence pairs, as counted in the raw files.
        done: finished task -> its manifest.
        assumed: returns the value of the first of several `assume.` keys that the user has set, or None.
    """

    vocabulary: int
    kept: Estimate = ALL
    sample: Text = Text()
    test: int = 1000
    dev: int = 1000
    collected: Mapping[str, Estimate] = field(default_factory=dict)
    done: Mapping[Task, Mapping[str, Any]] = field(default_factory=dict)
    assumed: Callable[..., Estimate | None] = lambda *_: None
    texts: dict[Stage, Text] = field(default_factory=dict)
    forecasts: dict[Stage, StageForecast | None] = field(default_factory=dict)

    def add(self, stage: Stage) -> None:
        """Add the forecast of a stage, whose inputs must have been added before."""
        forecast = self.forecasts[stage] = stage.kind.forecast(stage, self)
        output = forecast.output if forecast is not None else None
        self.texts[stage] = self.counted(stage, output or self.input_of(stage))

    def work(self, task: Task) -> TaskWork | None:
        """Return the forecast of one task; None if its kind has none."""
        forecast = self.forecasts[task.stage]
        return None if forecast is None else forecast.tasks[task.name]

    def counted(self, stage: Stage, expected: Text) -> Text:
        """Return the size of a stage's output: from its manifests if it is finished, else as expected."""
        counts = [self.done[task]["counts"] for task in stage.tasks if task in self.done]
        if len(counts) < len(stage.tasks) or not counts or "pairs out" not in counts[0]:
            return expected
        source = "counted in finished tasks"
        pairs = sum(each["pairs out"] for each in counts)
        text = replace(expected, pairs=Estimate(pairs, source))
        if "source pieces" not in counts[0] or not pairs:
            return text
        # The counts of a data folder include the ends of sentences.
        sides = (sum(each[f"{side} pieces"] for each in counts) / pairs - 1 for side in ("source", "target"))
        source_tokens, target_tokens = (Estimate(side, source) for side in sides)
        return replace(text, source_tokens=source_tokens, target_tokens=target_tokens)

    # --- texts -------------------------------------------------------------------------------------------------------

    def input(self, stage: Stage, role: str) -> Text:
        """Return the corpus that a stage reads in a role; the pairs of several stages are added up."""
        texts = [self.texts[other] for _, other in stage.inputs.get(role, []) if other in self.texts]
        if not texts:
            return self.sample
        if len(texts) == 1:
            return texts[0]
        known = [text.pairs.value for text in texts if text.pairs.value is not None]
        pairs = Estimate(sum(known) if len(known) == len(texts) else None, texts[0].pairs.source)
        return replace(texts[0], pairs=pairs)

    def input_of(self, stage: Stage) -> Text:
        """Return the corpus that a stage reads as `corpus`, `corpora` or `data`."""
        return self.input(stage, next((role for role in ("corpus", "corpora", "data") if role in stage.inputs), ""))

    def largest_input(self, task: Task, role: str) -> Text:
        """Return the largest of the corpora that a task reads in a role."""
        stages = dict.fromkeys(item.task.stage for item in task.inputs[role])
        return max((self.texts.get(stage, self.sample) for stage in stages), key=lambda text: text.pairs.value or 0.0)

    def held_out(self, use: HeldOut) -> int:
        """Return the number of sentences of dev or test."""
        return self.dev if use is HeldOut.dev else self.test

    def assumed_of(self, key: str, stage: Stage) -> Estimate | None:
        """Return the value of `assume.KEY.STAGE` for one instance or all instances of a stage."""
        return self.assumed(f"{key}.{stage.name}", f"{key}.{stage.spec.name}")

    # --- models ------------------------------------------------------------------------------------------------------

    def models(self, tasks: Iterable[Task]) -> list[ModelConfig]:
        """Return the shapes of the models in the outputs of these tasks."""
        return [model for task in tasks if (work := self.work(task)) for model in work.models]

    def parameters(self, model: ModelConfig) -> int:
        """Count the parameters of a model of this recipe."""
        return parameter_count(model, self.vocabulary)

    def largest_model(self, tasks: Iterable[Task]) -> Estimate:
        """Return the file size in bytes of the largest model of these tasks."""
        size = max((self.parameters(model) for model in self.models(tasks)), default=0) * MODEL_BYTES
        return Estimate(float(size) or None, "weights x 4 bytes")

    def training_flops(self, model: ModelConfig, text: Text) -> float | None:
        """Compute the FLOPs of training on one target token; None if lengths are unknown."""
        source, target = text.source_tokens.value, text.target_tokens.value
        if source is None or target is None:
            return None
        return training_flops(model, self.vocabulary, source + 1, target + 1)

    def translation_flops(self, models: Iterable[ModelConfig], text: Text, beam: int) -> float | None:
        """Compute the FLOPs of translating one sentence by all models together; None if unknown."""
        source, target, models = text.source_tokens.value, text.target_tokens.value, list(models)
        if source is None or target is None or not models:
            return None
        steps = text.steps.value or STEPS_A_TOKEN * (target + 1)
        return sum(translation_flops(model, self.vocabulary, source + 1, steps, beam=beam) for model in models)


# --- forecasts that several kinds share -------------------------------------------------------------------------------


def equal_tasks(stage: Stage, work: TaskWork, output: Text | None = None) -> StageForecast:
    """Forecast a stage whose tasks all do the same amount of work."""
    return StageForecast({task.name: work for task in stage.tasks}, output)


def by_pairs(stage: Stage, text: Text, *, output: Text | None = None, **more: Any) -> StageForecast:
    """Forecast a stage whose tasks share the pairs of a corpus evenly. more: fields of `TaskWork`."""
    share = text.pairs.times(1 / len(stage.tasks))
    work = Work(stage.kind.name, "pairs", share, text.pair_bytes.value)
    return equal_tasks(stage, TaskWork((work,), **more), output)


def single_task(stage: Stage, **more: Any) -> StageForecast:
    """Forecast a stage whose tasks' work does not depend on the recipe. more: fields of `TaskWork`."""
    return equal_tasks(stage, TaskWork((Work(stage.kind.name, "tasks", Estimate(1, "config")),), **more))


def translation(name: str, system: Sequence[Input], sentences: float, known: Known, beam: int, flops: str = "") -> Work:
    """Forecast the translation of held-out sentences by a system: one model, or the members of an ensemble.

    Each format of exported models has its own rate.
    """
    tasks = [item.task for item in system]
    formats = [str(task.identity["format"]) for task in tasks if "format" in task.identity]
    cost = known.translation_flops(known.models(tasks), known.sample, beam)
    return Work(" ".join([name, *formats[:1]]), "sentences", Estimate(sentences, "config"), cost, flops=flops)
