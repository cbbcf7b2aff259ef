"""Teachers behind a server: decoding and translating with them, their costs, and settings that do not work with them.

Shared by the kinds that read teachers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kd.base.errors import UserError
from kd.base.estimate import Estimate
from kd.base.text import unknown_name
from kd.corpora.guards import Guards
from kd.corpora.nbest import Hypothesis, NBestList, NBestShardWriter, member_features
from kd.corpora.shard import Shard
from kd.engines.endpoint.description import Endpoint
from kd.engines.endpoint.journal import Journal, Usage
from kd.engines.endpoint.starting import running
from kd.engines.endpoint.translator import Drawing, EndpointTranslator
from kd.models.description import ENDPOINT
from kd.models.folder import ModelFolder
from kd.models.known import Known, Text
from kd.pipeline.forecast import Asked, Work
from kd.pipeline.model import Artifact, Input, Job, Stage
from kd.recipe.schema import (
    DecodeConfig,
    DecodeMethod,
    GivenModelConfig,
    GivenModelsConfig,
    MixConfig,
    SelectConfig,
    SelectMetric,
    TeacherEngine,
)
from kd.stages.source_only import reads_source_only

JOURNAL = ".answers.jsonl"  # of a shard that is not finished
NO_SCORES = "the server gives none: all are 0, and a list has the order of its answers"
TOKEN_BYTES = 4.0  # per token, if no text was measured: OpenAI's rule of thumb for English
_USAGE = {
    "requests": "requests",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "uncounted": "requests without token counts",
    "retries": "requests repeated",
}  # of Usage, in a manifest


# --- planning --------------------------------------------------------------------------------------------------------


def inputs_of(stage: Stage, role: str) -> list[Input]:
    """Return the models that a stage reads in a role: of `decode`, those that its setting `teachers` names."""
    chosen = getattr(stage.config, "teachers", {})
    named = {name for name, wanted in chosen.items() if wanted}
    items = stage.input_tasks(role)
    return [item for item in items if not named or teacher_name(item.task.name) in named]


def teacher_name(task: str) -> str:
    """Return the name of the teacher that a task makes: `a` of `member-a`."""
    return task.removeprefix("member-")


def served(item: Input) -> tuple[str, GivenModelConfig] | None:
    """Return the name and the settings of a teacher behind a server; None for any other model."""
    found = given(item)
    return found if found and found[1].engine is TeacherEngine.endpoint else None


def given(item: Input) -> tuple[str, GivenModelConfig] | None:
    """Return the name and the settings of a given teacher; None for a model of this run."""
    config = item.task.stage.config
    name = teacher_name(item.task.name)
    member = config.members.get(name) if isinstance(config, GivenModelsConfig) else None
    return None if member is None else (name, member)


def teacher_of(stage: Stage, role: str) -> tuple[str, GivenModelConfig] | None:
    """Return the teacher behind a server that a stage reads in a role; None if it reads none."""
    return next((found for item in inputs_of(stage, role) if (found := served(item))), None)


def converted_of(stage: Stage) -> tuple[str, GivenModelConfig] | None:
    """Return the teacher that CTranslate2 translates with and that a stage reads; None if it reads none."""
    found = (each for item in inputs_of(stage, "teachers") if (each := given(item)))
    return next((each for each in found if each[1].engine is TeacherEngine.ctranslate2), None)


def address_of(stage: Stage, role: str) -> str | None:
    """Return the address of the server that a stage sends requests to; None if no teacher is behind a server."""
    found = teacher_of(stage, role)
    return found[1].url if found else None


def check_decoding(stage: Stage) -> None:
    """Raise UserError for settings of `decode` that the engine of the teachers does not support."""
    config: DecodeConfig = stage.config
    _check_alone(stage)
    found = teacher_of(stage, "teachers")
    if found is None:
        converted = converted_of(stage)
        if converted and config.method is DecodeMethod.diverse:
            raise UserError(
                f"teachers.{converted[0]} is translated by CTranslate2, which has no diverse beam search.",
                "Set decode.method=beam, or decode.method=sample.",
            )
        if config.top_p < 1 and not converted:
            raise UserError(
                f"decode.top_p is {config.top_p:g}, but teachers of fairseq do not read it.",
                "Set decode.sample_top instead, and decode.top_p=1.",
            )
        return
    key = f"teachers.{found[0]}"
    if config.method is DecodeMethod.sample:
        return
    if config.method is DecodeMethod.diverse or config.beam > 1 or config.nbest > 1:
        raise UserError(
            f"{key} is behind a server, which has no beam search: {stage.name} cannot use decode.method="
            f"{config.method.value} with decode.beam={config.beam} and decode.nbest={config.nbest}.",
            "Set decode.method=sample for several samples, or decode.beam=1 decode.nbest=1 for the greedy translation.",
        )


def _check_alone(stage: Stage) -> None:
    """Raise UserError for several teachers that cannot decode as an ensemble, or that `decode.teachers` misspells."""
    names = [teacher_name(item.task.name) for item in stage.input_tasks("teachers")]
    for name in stage.config.teachers:
        if name not in names:
            raise unknown_name(f"teacher of {stage.name} (named by decode.teachers)", name, names)
    found = [each for item in inputs_of(stage, "teachers") if (each := given(item))]
    other = next((each for _, each in found if each.engine is not TeacherEngine.fairseq), None)
    if other is not None and len(found) > 1:
        what = "a model for CTranslate2" if other.engine is TeacherEngine.ctranslate2 else "an endpoint"
        samples = "{decode: {method: sample}}"  # a server has no beam search
        members = ", ".join(
            f"{name}: {samples if each.engine is TeacherEngine.endpoint else {}}" for name, each in found
        )
        raise UserError(
            f"{stage.name} has {what} among several teachers, but only fairseq models decode as an ensemble.",
            f"Name a single teacher, or join the lists of all: '+mixture={{{members}}}'.",
        )


def check_pairs(stage: Stage, role: str) -> None:
    """Raise UserError for an input of another language pair than the stage's own."""
    for label, other in stage.inputs.get(role, []):
        if stage.axis_value and other.axis_value and other.axis_value != stage.axis_value:
            key = role if label == role else f"{role}.{label}"
            raise UserError(
                f"{stage.name} translates {stage.axis}, and {other.name} belongs to {other.axis}.",
                f"Set chain.{stage.spec.name}.inputs.{key}={other.spec.name}, which is of the stage's own pair.",
            )


def lists_per_source(stage: Stage) -> int:
    """Return the number of hypotheses in the lists that a stage reads; 1 if it is unknown."""
    total = 0
    for _, other in stage.inputs.get("lists", []):
        total += lists_per_source(other) if other.inputs.get("lists") else getattr(other.config, "nbest", 0) or 0
    return total or 1


def check_selection(stage: Stage) -> None:
    """Raise UserError for a stage that selects by model scores from lists that have none."""
    config: SelectConfig = stage.config
    mixed = config.metric is SelectMetric.mix and config.mix.get(SelectMetric.model.value)
    if config.metric is not SelectMetric.model and not mixed:
        return
    metric = "source_only.metric" if reads_source_only(stage) else "select.metric"
    for _, decoded in stage.inputs.get("lists", []):
        found = teacher_of(decoded, "teachers")
        if isinstance(decoded.config, MixConfig):
            if not any(task.inputs.get("teachers") for task in decoded.tasks):
                raise UserError(
                    f"{stage.name} selects by model scores, and no teacher of the mixture can score hypotheses.",
                    f"Set {metric}=mbr_chrf, or add a teacher that is not behind a server.",
                )
        elif found and not found[1].logprobs:
            raise UserError(
                f"{stage.name} selects by model scores, but the server of {decoded.name} returns none.",
                f"Set teachers.{found[0]}.logprobs=true if the server has them, or {metric}=mbr_chrf.",
            )


def expect(stage: Stage, role: str, known: Known, text: Text, sentences: Estimate, answers: int) -> Asked | None:
    """Forecast the tokens that a stage sends to a server and receives, and their price; None if it uses no server.

    Tokens per sentence are those counted in finished tasks; without finished tasks, they follow from the lengths.

    Args:
        stage: The stage.
        role: The role in which it reads teachers.
        known: The sizes of the recipe.
        text: The text to translate.
        sentences: Number of sentences of all tasks.
        answers: Number of answers to each sentence.
    """
    found = teacher_of(stage, role)
    if found is None:
        return None
    settings = found[1]
    prompt, completion = _counted(stage, known) or _by_length(settings, text, answers)
    read, written = sentences.times(prompt), sentences.times(completion)
    price = read.times(settings.input_price / 1e6), written.times(settings.output_price / 1e6)
    values = [each.value for each in price]
    cost = None if None in values else sum(value for value in values if value is not None)
    return Asked(read, written, Estimate(cost, price[1].source), settings.currency)


def _counted(stage: Stage, known: Known) -> tuple[Estimate, Estimate] | None:
    """Return the mean tokens of prompt and answer per sentence in finished tasks; None if they were not counted."""
    done = [known.done[task] for task in stage.tasks if "requests" in known.done.get(task, {}).get("facts", {})]
    sources = sum(each["counts"].get("sources") or each["counts"].get("segments") or 0 for each in done)
    sums = [sum(each["facts"].get(name, 0) for each in done) for name in ("prompt tokens", "completion tokens")]
    if not sources or not all(sums):
        return None
    one, other = (Estimate(each / sources, "tokens counted in finished tasks") for each in sums)
    return one, other


def _by_length(settings: GivenModelConfig, text: Text, answers: int) -> tuple[Estimate, Estimate]:
    requests = math.ceil(answers / (settings.samples or answers))
    side = None if text.side_bytes is None else text.side_bytes / TOKEN_BYTES
    guess = Estimate(side, f"{TOKEN_BYTES:g} bytes a token" if side else "the length of the text is not known")
    source, target = (each if each else guess for each in (text.source_tokens, text.target_tokens))
    frame = len(settings.prompt) + len(settings.system or "") + settings.examples * len(settings.example)
    shown = (source.value or 0) + (target.value or 0)
    beside = frame / TOKEN_BYTES + settings.examples * shown
    prompt = Estimate(None if source.value is None else (source.value + beside) * requests, source.source)
    return prompt, target.times(answers)


def asking_work(settings: GivenModelConfig, sentences: Estimate, text: Text) -> Work:
    """Return the work of requesting translations of a number of sentences."""
    return Work(f"ask {settings.model}", "sentences", sentences, text.side_bytes)


# --- running ---------------------------------------------------------------------------------------------------------


def endpoint_of(artifacts: Sequence[Artifact]) -> Endpoint | None:
    """Return the teacher behind a server that these artifacts describe, with its current address; None for models."""
    if not artifacts or ModelFolder.open(artifacts[0].path).engine != ENDPOINT:
        return None
    first = artifacts[0]
    now = first.settings.get("members", {}).get(first.task.removeprefix("member-"))
    return Endpoint.open(first.path, now)


def decode(job: Job[DecodeConfig], endpoint: Endpoint, shards: Sequence[Shard], total: int) -> None:
    """Request the n-best lists of shards, one shard at a time. `total`: number of sources in the worker's shards."""
    if shards:
        with running(endpoint, job.progress.update) as ready:
            _decode(job, ready, shards, total)
    for left in job.out.glob(f"*{JOURNAL}"):  # of a process that was killed before it removed it
        left.unlink()


def _decode(job: Job[DecodeConfig], endpoint: Endpoint, shards: Sequence[Shard], total: int) -> None:
    config = job.config
    drawing = None
    if config.method is DecodeMethod.sample:
        drawing = Drawing(config.seed, config.temperature, config.top_p, config.sample_top)
    translator = EndpointTranslator(
        endpoint,
        nbest=config.nbest,
        drawing=drawing,
        max_pieces=config.max_pieces,
        length_penalty=config.length_penalty,
    )
    guards = Guards(config.guards, *endpoint.languages)
    done = total - sum(shard.sources for shard in shards)
    spent = Usage()
    for shard in shards:
        others = [place / f"{shard.name}{JOURNAL}" for place in job.resumable_from]
        journal = Journal(job.out / f"{shard.name}{JOURNAL}", others)
        before, used = done, Usage(**asdict(spent))

        def report(number: int, _: int, before: int = before, used: Usage = used, journal: Journal = journal) -> None:
            notes = shown(_sum(used, journal.usage), endpoint)
            job.progress.update("asking", before + number, total, "sentences", notes=notes)

        _write(job, shard, translator, guards, journal, report)
        journal.remove()
        spent = _sum(spent, journal.usage)
        done += shard.sources


def _write(
    job: Job[DecodeConfig],
    shard: Shard,
    translator: EndpointTranslator,
    guards: Guards,
    journal: Journal,
    report: Callable[[int, int], None],
) -> None:
    groups = [(group[0].id, group[0].source) for group in shard.groups()]
    before = Counter(translator.counts)
    lists = translator.translate([source for _, source in groups], report, journal)
    counts = Counter(translator.counts)
    counts.subtract(before)
    writer = NBestShardWriter(job.out, shard.name, pieces=False)
    with writer:
        for (pair_id, source), hypotheses in zip(groups, lists, strict=True):
            writer.add(
                NBestList(
                    pair_id,
                    [Hypothesis(each.text, member_features(each.member_scores), each.score) for each in hypotheses],
                )
            )
            if guard := guards.check(source, hypotheses[0].text):
                counts[f"guard {guard}"] += 1
        writer.facts = {name: number for name, number in (counts | usage_facts(journal.usage)).items() if number}


def usage_facts(usage: Usage) -> Counter[str]:
    """Return requests and tokens under the names that they have in a manifest."""
    return Counter({_USAGE[name]: number for name, number in asdict(usage).items() if number})


def price_facts(facts: Mapping[str, Any], endpoint: Endpoint) -> dict[str, Any]:
    """Return the price of the tokens in a manifest's facts; empty if the recipe states no prices."""
    price = _price(facts.get("prompt tokens", 0), facts.get("completion tokens", 0), endpoint)
    return {"price": round(price, 6), "currency": endpoint.settings.currency} if price else {}


def shown(usage: Usage, endpoint: Endpoint) -> dict[str, str]:
    """Return the notes of a progress line: tokens, and their price if the recipe states it."""
    notes = {"tokens": f"{usage.prompt_tokens:,} in, {usage.completion_tokens:,} out"}
    if price := _price(usage.prompt_tokens, usage.completion_tokens, endpoint):
        notes["price"] = f"{price:,.2f} {endpoint.settings.currency}"
    return notes


def _price(prompt: int, completion: int, endpoint: Endpoint) -> float:
    return (prompt * endpoint.settings.input_price + completion * endpoint.settings.output_price) / 1e6


def _sum(*usages: Usage) -> Usage:
    return Usage(*(sum(values) for values in zip(*(asdict(each).values() for each in usages), strict=True)))


def translate(
    endpoint: Endpoint, sources: Iterable[str], max_pieces: int, progress: Callable[[int, int], None]
) -> tuple[list[str], dict[str, int]]:
    """Return the greedy translations of some sources, and the counts of answers, requests and tokens."""
    with running(endpoint) as ready:
        translator, journal = EndpointTranslator(ready, max_pieces=max_pieces), Journal()
        lists = translator.translate(list(sources), progress, journal)
    return [found[0].text for found in lists], dict(translator.counts + usage_facts(journal.usage))
