"""How much work each task of a plan is, before it has run: pairs, target tokens, sentences, and the cost of each.

A corpus is followed down the chain (`Text`), and each kind of stage says in `PARTS` what its tasks do with it. A kind
that is not there takes nothing away from the others: what it costs is unknown, and said to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kd.pipeline.model import Stage, Task
from kd.planning.assumptions import Assumptions
from kd.planning.figures import NOTHING, Figure
from kd.planning.shapes import training_operations, translation_operations
from kd.planning.trainings import LARGEST, budget_of, chosen_later, training_of
from kd.recipe.schema import DecodeConfig, EncodeConfig, HeldOut, ModelConfig, SearchConfig, TrainConfig

# Steps of a search to the length of a target, its end counted: a search goes on until it has as many hypotheses as its
# beam is wide. What is done leaves the batch, so that others in it do not count.
STEPS_A_PIECE = 1.1
ALONE = 4  # times what a sentence takes among others, it takes alone: some 3 to 8, by the speed tables of small models


@dataclass(frozen=True)
class Text:
    """A parallel corpus as far as it is known."""

    pairs: Figure = NOTHING
    source_pieces: Figure = NOTHING  # of a sentence, its end not counted
    target_pieces: Figure = NOTHING
    pair_bytes: Figure = NOTHING  # text of both sides of a pair, not compressed
    steps: Figure = NOTHING  # of a search, for a sentence


@dataclass(frozen=True)
class Part:
    """One kind of work in a task. Its time is amount x effort, at a rate that was measured for the same `name`.

    effort: what one of them costs, in a unit that only the name knows: operations, bytes; seconds are proportional.
    """

    name: str
    unit: str
    amount: Figure
    effort: float | None = 1.0
    resource: str = ""  # class whose devices share it: train, decode; none: it is done by one process


@dataclass
class Volume:
    """What is known of the sizes in a recipe; `texts` grows stage by stage, as each stage's output becomes known."""

    assumptions: Assumptions
    vocabulary: int
    kept: Figure  # share of pairs that cleaning keeps
    sample: Text  # lengths, of whatever text there was to look at
    held_out: int = 1000  # sentences of a test set or dev set
    dev: int = 1000
    collected: Mapping[str, Figure] = field(default_factory=dict)  # task of collect -> pairs
    texts: dict[Stage, Text] = field(default_factory=dict)
    manifests: Mapping[Task, Mapping[str, Any]] = field(default_factory=dict)  # of what is done

    def follow(self, stage: Stage) -> None:
        """Works out what the stage's output is; its inputs come first."""
        self.texts[stage] = self._measured(stage) or self._expected(stage)

    def given(self, stage: Stage, role: str) -> Text:
        """The corpus that a stage reads from a role: of several stages their sum."""
        texts = [self.texts[other] for _, other in stage.inputs.get(role, []) if other in self.texts]
        if not texts:
            return self.sample
        if len(texts) == 1:
            return texts[0]
        known = [text.pairs.value for text in texts if text.pairs.value is not None]
        pairs = Figure(sum(known) if len(known) == len(texts) else None, texts[0].pairs.source)
        return replace(texts[0], pairs=pairs)

    def _measured(self, stage: Stage) -> Text | None:
        """What the manifests of a finished stage say."""
        counts = [self.manifests[task]["counts"] for task in stage.tasks if task in self.manifests]
        if len(counts) < len(stage.tasks) or not counts or "pairs out" not in counts[0]:
            return None
        pairs = Figure(sum(each["pairs out"] for each in counts), "counted in what is done")
        text = replace(self._expected(stage), pairs=pairs)
        if "source pieces" in counts[0] and pairs.value:
            sides = (sum(each[f"{side} pieces"] for each in counts) / pairs.value for side in ("source", "target"))
            # The numbers of pieces in a data folder have the end of sentence in them.
            source, target = (Figure(side - 1, "counted in what is done") for side in sides)
            text = replace(text, source_pieces=source, target_pieces=target)
        return text

    def _expected(self, stage: Stage) -> Text:
        kind = stage.kind.name
        if kind == "collect":
            return replace(self.sample, pairs=self._collected(stage))
        corpus = self.given(stage, next((role for role in ("corpus", "corpora", "data") if role in stage.inputs), ""))
        if kind == "clean":
            return replace(corpus, pairs=corpus.pairs.times(self.kept))
        if kind == "decode":
            return replace(corpus, pairs=corpus.pairs.times(stage.config.share))
        if kind == "select":
            return self.given(stage, "lists")
        return corpus

    def _collected(self, stage: Stage) -> Figure:
        if assumed := self.assumptions.get(f"pairs.{stage.axis}"):
            return assumed
        parts = [self.collected.get(task.full_name, Figure(None)) for task in stage.tasks if is_training(task)]
        known = [part.value for part in parts if part.value is not None]
        if len(known) < len(parts) or not parts:
            return Figure(None, f"say assume.pairs.{stage.axis}=NUMBER")
        return Figure(sum(known), "; ".join(dict.fromkeys(part.source for part in parts)))


def is_training(task: Task) -> bool:
    """Whether a task of collect reads what is trained on, and no dev or test set."""
    source = task.stage.config.sources.get(task.name)
    return source is None or source.use.value == "train"


# --- what each kind does ---------------------------------------------------------------------------------------------


def _collect(task: Task, volume: Volume) -> Iterator[Part]:
    shares = [other for other in task.stage.tasks if is_training(other)]
    pairs = volume.collected.get(task.full_name)
    if not is_training(task) and not pairs:  # a test set that would have to be fetched
        pairs = Figure(volume.held_out, "config")
    if pairs is None or (is_training(task) and volume.assumptions.get(f"pairs.{task.stage.axis}")):
        pairs = volume.texts[task.stage].pairs.times(1 / max(1, len(shares)))
    yield Part("collect", "pairs", pairs, volume.texts[task.stage].pair_bytes.value)


def _by_pairs(role: str) -> Callable[[Task, Volume], Iterator[Part]]:
    def parts(task: Task, volume: Volume) -> Iterator[Part]:
        text = volume.given(task.stage, role)
        share = 1 / len(task.stage.tasks)
        yield Part(task.stage.kind.name, "pairs", text.pairs.times(share), text.pair_bytes.value)

    return parts


def _vocabulary(task: Task, volume: Volume) -> Iterator[Part]:
    text = volume.given(task.stage, "corpora")
    sentences = None if text.pairs.value is None else min(2 * text.pairs.value, task.stage.config.sample)
    effort = None if text.pair_bytes.value is None else text.pair_bytes.value / 2
    yield Part("vocabulary", "sentences", Figure(sentences, text.pairs.source), effort)


def _encode(task: Task, volume: Volume) -> Iterator[Part]:
    config: EncodeConfig = task.stage.config
    text = volume.given(task.stage, "corpus")
    yield Part("encode", "pairs", text.pairs.times(config.passes), text.pair_bytes.value)


def _train(task: Task, volume: Volume) -> Iterator[Part]:
    config = training_of(task)
    assert config is not None
    text = _corpus_of(task, volume)
    updates = updates_of(task.stage, volume.assumptions)
    tokens = updates.times(config.batch.target_tokens)
    effort = None
    if text.source_pieces.value is not None and text.target_pieces.value is not None:
        lengths = text.source_pieces.value + 1, text.target_pieces.value + 1
        effort = training_operations(config.model, volume.vocabulary, *lengths)
    if chosen_later(task):
        tokens = replace(tokens, source=f"{tokens.source}; {LARGEST}")
    yield Part("train", "target tokens", tokens, effort, "train")
    validations = None if updates.value is None else updates.value // config.checkpoint.every
    if validations and config.validate_bleu:
        sentences = Figure(validations * volume.dev, "config")
        greedy = _operations(config.model, text, volume, beam=1)
        yield Part("validate", "sentences", sentences, greedy)


def _corpus_of(task: Task, volume: Volume) -> Text:
    """What a training reads: a cell its own data; a student that a search chooses the largest that it may get."""
    stages = dict.fromkeys(item.task.stage for item in task.inputs["data"])
    texts = [volume.texts.get(stage, volume.sample) for stage in stages]
    if isinstance(task.stage.config, SearchConfig) or chosen_later(task):
        return max(texts, key=lambda text: text.pairs.value or 0.0)
    return volume.given(task.stage, "data")


def updates_of(stage: Stage, assumptions: Assumptions) -> Figure:
    """Updates of a training: at most those of the config."""
    config = budget_of(stage)
    if assumed := assumptions.get(f"updates.{stage.name}", f"updates.{stage.spec.name}"):
        return assumed
    updates, source = float(config.max_update), "config"
    if config.stop.target_tokens:
        updates = min(updates, config.stop.target_tokens / config.batch.target_tokens)
    if config.stop.patience:
        source = "config: at most, it may end earlier"
    return Figure(updates, source)


def weights(model: ModelConfig, volume: Volume) -> int:
    """Trainable numbers of a model of the recipe."""
    from kd.engines.fairseq.model import parameter_count

    return parameter_count(model, volume.vocabulary)


def _operations(model: ModelConfig, text: Text, volume: Volume, *, beam: int, members: int = 1) -> float | None:
    if text.source_pieces.value is None or text.target_pieces.value is None:
        return None
    steps = text.steps.value or STEPS_A_PIECE * (text.target_pieces.value + 1)
    lengths = text.source_pieces.value + 1, steps
    return translation_operations(model, volume.vocabulary, *lengths, beam=beam, members=members)


def _decode(task: Task, volume: Volume) -> Iterator[Part]:
    config: DecodeConfig = task.stage.config
    text = volume.given(task.stage, "corpus")
    models = models_behind([item.task for item in task.inputs["teachers"]])
    sentences = text.pairs.times(config.share / len(task.stage.tasks))
    effort = None
    if models:
        found = [_operations(model, text, volume, beam=config.beam) for model in models]
        effort = None if None in found else sum(each for each in found if each is not None)
    yield Part(f"decode {config.engine.value}", "sentences", sentences, effort, "decode")


def _select(task: Task, volume: Volume) -> Iterator[Part]:
    text = volume.given(task.stage, "lists")
    nbest = next((getattr(other.config, "nbest", 0) for _, other in task.stage.inputs.get("lists", [])), 0) or 1
    hypotheses = text.pairs.times(nbest / len(task.stage.tasks))
    effort = None if text.pair_bytes.value is None else text.pair_bytes.value / 2
    yield Part(f"select {task.stage.config.metric}", "hypotheses", hypotheses, effort)


def _export(task: Task, volume: Volume) -> Iterator[Part]:
    models = models_behind([item.task for item in task.inputs["models"]])
    yield Part("export", "models", Figure(1, "config"), float(sum(weights(model, volume) for model in models)) or None)


def _translate(task: Task, volume: Volume) -> Iterator[Part]:
    yield from _system(list(task.inputs["systems"]), volume, _held(task, volume), task.stage.config.beam)


def _system(items: list[Any], volume: Volume, sentences: float, beam: int, what: str = "translate") -> Iterator[Part]:
    tasks = [item.task for item in items]
    exported = next((task for task in tasks if task.stage.kind.name == "export"), None)
    name = f"{what} {exported.identity.get('format')}" if exported else what
    found = [_operations(model, volume.sample, volume, beam=beam) for model in models_behind(tasks)]
    effort = sum(each for each in found if each is not None) if found and None not in found else None
    yield Part(name, "sentences", Figure(sentences, "config"), effort)


def _held(task: Task, volume: Volume) -> int:
    """Sentences of the set that a stage is about: a search looks at dev alone."""
    return volume.dev if task.stage.config.set is HeldOut.dev else volume.held_out


def _speed(task: Task, volume: Volume) -> Iterator[Part]:
    from kd.models.systems import group

    config = task.stage.config
    models = [(item.label, item.task.name, item.task.stage.kind.name, item) for item in task.inputs["systems"]]
    for items in group(models, [label for label, wanted in config.ensembles.items() if wanted]).values():
        # On all cores it takes as long again: they get as much as each of them can do.
        rounds = config.repeats * (2 if config.all_cores else 1)
        sentences = min(config.sentences, _held(task, volume)) * rounds + ALONE * config.latency_sentences + 20
        yield from _system(items, volume, sentences, config.beam, "speed")


def _evaluate(task: Task, volume: Volume) -> Iterator[Part]:
    systems = sum(1 for item in task.inputs["translations"])
    metrics = sorted(name for name, wanted in task.stage.config.metrics.items() if wanted)
    for metric in ["comet"] if "comet" in metrics else []:
        yield Part(metric, "segments", Figure(systems * _held(task, volume), "config"))
    yield Part("evaluate", "segments", Figure(systems * _held(task, volume), "config"))


def _average(task: Task, volume: Volume) -> Iterator[Part]:
    models = models_behind([item.task for item in task.inputs["models"]])
    effort = float(sum(weights(model, volume) for model in models)) or None
    yield Part("average", "checkpoints", Figure(task.stage.config.count, "config"), effort)


def _once(task: Task, volume: Volume) -> Iterator[Part]:
    yield Part(task.stage.kind.name, "tasks", Figure(1, "config"))


# Kind -> what a task of it does. Whoever adds a kind of stage says it here, or leaves it: its cost is then unknown.
PARTS: Mapping[str, Callable[[Task, Volume], Iterator[Part]]] = {
    "collect": _collect,
    "clean": _by_pairs("corpus"),
    "split": _by_pairs("corpora"),
    "shard": _by_pairs("corpus"),
    "vocabulary": _vocabulary,
    "join": _by_pairs("corpora"),
    "encode": _encode,
    "train": _train,
    "search": _train,
    "choose": _once,
    "average": _average,
    "given_models": _once,
    "decode": _decode,
    "given_lists": _by_pairs("corpus"),
    "select": _select,
    "export": _export,
    "translate": _translate,
    "speed": _speed,
    "evaluate": _evaluate,
    "release": _once,
    "report": _once,
}


def parts_of(task: Task, volume: Volume) -> list[Part] | None:
    """What a task does; None for a kind that says nothing of it."""
    parts = PARTS.get(task.stage.kind.name)
    return None if parts is None else list(parts(task, volume))


def size_part(task: Task, volume: Volume, parts: Sequence[Part]) -> Part:
    """By what the size of what a task leaves goes: its work; of lists, the text and how many hypotheses they have."""
    if isinstance(task.stage.config, DecodeConfig):
        bytes_ = volume.given(task.stage, "corpus").pair_bytes.value
        return replace(parts[0], effort=None if bytes_ is None else bytes_ / 2 * task.stage.config.nbest)
    return parts[0]


def models_behind(tasks: list[Task]) -> list[ModelConfig]:
    """The shapes of the models that these tasks trained, or made of what others trained."""
    found = []
    for task in tasks:
        if training := training_of(task):
            found.append(training.model)
        elif task.stage.kind.name in ("export", "average"):
            found += models_behind([item.task for item in task.inputs["models"]])
    return found


def checkpoints_kept(config: TrainConfig, updates: float) -> int:
    """Checkpoints that a training leaves."""
    checkpoint = config.checkpoint
    made = math.ceil(updates / checkpoint.every)
    further = updates // checkpoint.keep_every if checkpoint.keep_every else 0
    return int(min(made, checkpoint.keep + checkpoint.keep_best + further))
