"""Evaluate: score every system on each held-out set, with signatures and paired tests.

Every system is compared with the baseline, by default the control, on the same resampled test sets. Faults (empty,
copied or runaway output, lost numbers …) are counted, on the test sets and on the robustness suite, and the leakage
guard's verdict on each set is stated. `kd evaluate` does the same for arbitrary files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.estimate import Estimate
from kd.base.records import plain
from kd.base.resources import cache_folder
from kd.base.text import unknown_name
from kd.corpora.guards import Guards
from kd.corpora.heldout import read_heldout, read_sets
from kd.corpora.index import read_json, write_json
from kd.corpora.lines import open_lines
from kd.corpora.robustness import read_cases
from kd.corpora.shards import Corpus
from kd.metrics.comet import REFERENCES, Comet, CometScores
from kd.metrics.comet_models import model_files
from kd.metrics.corpus import Options, corpus_scores, sacrebleu_metrics
from kd.metrics.judge import judge
from kd.metrics.pairing import Match, compare, matches, members, named
from kd.metrics.robustness import robustness
from kd.metrics.score_cache import ScoreCache
from kd.metrics.segments import segment_scores, weaknesses, worst
from kd.metrics.significance import Resampling, Significance
from kd.metrics.words import TRAINING_SENTENCES, frequencies
from kd.models.known import Known, equal_tasks
from kd.models.languages import primary
from kd.models.systems import CONTROL_SELECTED, System, check_names, possible_names, system_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import CorpusConfig, EvaluateConfig, SplitConfig, TranslateConfig, Use
from kd.recipe.schema.running import SystemRole
from kd.stages.outputs import HYPOTHESES, ROBUSTNESS, ROBUSTNESS_CASES, SCORES, WEAKNESSES

COMET, SEGMENT_METRIC = "comet", "chrF2"  # chrF is a better metric of single sentences than BLEU
HELD_OUT = "held_out"  # name of the set that `split` drew


class Evaluate(Kind[EvaluateConfig]):
    """Score translations."""

    name = "evaluate"
    version = 5  # 4: systems as objects; 5: words by frequency, n-grams, scores of all segments
    config = EvaluateConfig
    loads_once = True
    roles: ClassVar = {
        "held_out": Role(),
        "translations": Role(many=True),
        "corpora": Role(many=True, optional=True),  # training corpora, for the verdict of the leakage guard
    }
    resources = "cpu"

    def validate(self, config: EvaluateConfig) -> None:
        """Raise UserError for an unknown metric and COMET without a model."""
        corpus_scores(["a"], [["a"]], _metrics(config), Options(config.tokenize))
        if config.bootstrap:
            _resampling(config, 1)
        if config.metrics.get(COMET):
            if not config.comet.model:
                raise UserError(
                    "evaluate.metrics.comet is true, but evaluate.comet.model is not set.",
                    "Set it to a folder or a name: evaluate.comet.model=Unbabel/wmt22-comet-da.",
                )
            if config.comet.references not in REFERENCES:
                raise UserError(
                    f"evaluate.comet.references is {config.comet.references!r}, which is not a method.",
                    f"Choose one of: {', '.join(REFERENCES)}.",
                )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task, which depends on the content of COMET's checkpoint if that is a local file."""
        config: EvaluateConfig = stage.config
        _check_main_set(config, stage)
        _check_sets(config, stage)
        systems = [system_of(item) for item in stage.input_tasks("translations")]
        check_names(systems)
        names = [system.name for system in systems]
        if config.baseline is not None and named(config.baseline, systems) is None:
            error = unknown_name("system (evaluate.baseline)", config.baseline, names)
            raise UserError(error.problem, f"{error.hint} To compare with no system, set evaluate.baseline=null.")
        for name in _absent(config, names):
            if not _could_be(name, stage):
                raise unknown_name("system (evaluate.further_baselines)", name, names)
        identity, extent = identity_and_extent(config)
        identity["systems"] = plain(systems)  # the second control among them, which is a baseline
        identity.pop("pairs", None)  # only those of systems that exist matter
        if pairs := _matches(config, systems):
            identity["pairs"] = [[match.system, match.other] for match in pairs]
        target = str(stage.axis_value.get("target") or "")
        sacrebleu_metrics(_metrics(config), Options(config.tokenize, target))  # the language's tokeniser is installed
        if "_" in target:  # earlier versions had no tokeniser for zh_CN; a higher `version` would affect all pairs
            identity["language"] = primary(target)
        if config.metrics.get(COMET) and config.comet.model:
            identity = {**identity, "comet model": Path(config.comet.model).name}
        files: Callable[[], list[Path]] = partial(
            model_files, config.comet.model if config.metrics.get(COMET) else None
        )
        yield TaskSpec("all", identity, extent, files=files)

    def run(self, job: Job[EvaluateConfig]) -> None:
        """Score, resample, and count faults."""
        test = read_heldout(job.one("held_out").path, str(job.axis), job.config.set.value)
        sources, references = [pair.source for pair in test], [[pair.target for pair in test]]
        found = {system_of(artifact): artifact for artifact in job.inputs["translations"]}
        outputs = {system.name: list(open_lines(each.path / HYPOTHESES)) for system, each in found.items()}
        options = Options(job.config.tokenize, str(job.axis_value.get("target") or ""))
        job.progress.update("scoring")
        comet_scores = _comet(job, outputs, sources, references)
        baselines = _baselines(job.config, found)
        sets = _sets(job, [pair.id for pair in test])
        judged = {
            name: {**_judged(job, each.segments, outputs, references, comet_scores, options), "leakage": each.leakage}
            for name, each in sets.items()
        }
        main = next(iter(judged))
        write_json(job.out / SCORES, {"systems": plain(list(found)), **judged[main], "set": main, "sets": judged})
        job.progress.update("counting faults")
        guards = Guards(job.config.guards, str(job.axis_value.get("source") or ""), options.language)
        counted = _weaknesses(
            job.config, outputs, sources, references, options, guards, baselines, _training_words(job)
        )
        write_json(job.out / WEAKNESSES, counted)
        suites = {system.name: each.path / ROBUSTNESS_CASES for system, each in found.items()}
        checked = {name: robustness(read_cases(path), guards) for name, path in suites.items() if path.is_file()}
        if checked:
            write_json(job.out / ROBUSTNESS, {"systems": plain(checked)})

    def check(self, job: Job[EvaluateConfig]) -> Summary:
        """Check that every system has every metric."""
        content, counted = read_json(job.out / SCORES), read_json(job.out / WEAKNESSES)["systems"]
        wanted = len(_metrics(job.config)) + bool(job.config.metrics.get(COMET))
        names = [system_of(artifact).name for artifact in job.inputs["translations"]]
        for name in names:
            found = [len(each["scores"].get(name, [])) for each in (content, *content["sets"].values())]
            if any(number != wanted for number in found) or name not in counted:
                raise IncompleteArtifact(f"{job.out} lacks scores of {name}.")
        absent = _absent(job.config, names)
        facts = {"further baselines without a system": absent} if absent else {}
        return Summary({"segments": content["segments"], "systems": len(content["scores"])}, facts=facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the segments of all systems; COMET is a separate part."""
        segments = Estimate(len(stage.input_tasks("translations")) * known.held_out(stage.config.set), "config")
        work = [Work(COMET, "segments by COMET", segments)] if stage.config.metrics.get(COMET) else []
        return equal_tasks(stage, TaskWork((*work, Work(self.name, "segments", segments)), allowance=5e6))


def _check_main_set(config: EvaluateConfig, stage: Stage) -> None:
    """Raise UserError if the config gives no sets to score, or the main one is not among them."""
    use = Use(config.set.value)
    configs = [other.config for other in stage.upstream()]
    corpora = [config.sources for config in configs if isinstance(config, CorpusConfig)]
    drawing = [config for config in configs if isinstance(config, SplitConfig)]
    if not corpora or not drawing:
        return
    given = {
        name
        for sources in corpora
        for name, source in sources.items()
        if source.use is use and (not source.pairs or source.pairs.get(str(stage.axis)))
    }
    drawn = any(getattr(each, use.value) and (not given or each.test_beside_given) for each in drawing)
    names = given | ({HELD_OUT} if drawn else set())
    if not names:
        raise _nothing_to_score(config, str(stage.axis), stage.name)
    if config.main_set is not None and config.main_set not in names:
        raise unknown_name("test set (evaluate.main_set)", config.main_set, names)


def _nothing_to_score(config: EvaluateConfig, axis: str, stage: str) -> UserError:
    use = config.set.value
    return UserError(
        f"{stage} has no {use} set of {axis} to score on.",
        f"Set split.{use} above 0, give a corpus the use {use}, or switch the stage off.",
    )


def _check_sets(config: EvaluateConfig, stage: Stage) -> None:
    """Raise UserError if the translations are of different sets than the scores."""
    for _, other in stage.inputs.get("translations", []):
        if isinstance(other.config, TranslateConfig) and other.config.set is not config.set:
            raise UserError(
                f"{stage.name} scores {config.set.value}, but {other.name} translates {other.config.set.value}.",
                f"Set `set` to the same in chain.{stage.spec.name} and chain.{other.spec.name}.",
            )


def _metrics(config: EvaluateConfig) -> list[str]:
    """Return the names of the metrics that sacreBLEU computes."""
    return [name for name, wanted in config.metrics.items() if wanted and name != COMET]


def _resampling(config: EvaluateConfig, jobs: int) -> Resampling:
    resampling = Resampling(samples=config.bootstrap, seed=config.seed, jobs=jobs)
    resampling.check()
    return resampling


def _baselines(config: EvaluateConfig, systems: Iterable[System]) -> list[str]:
    """Return the names of the systems that all others are compared with, `evaluate.baseline` first."""
    known = list(systems)
    first = named(config.baseline, known) if config.bootstrap and config.baseline is not None else None
    if first is None:
        return []
    names = [system.name for system in known]
    further = [name for name, wanted in config.further_baselines.items() if wanted and name in names]
    second = [each.name for each in members(CONTROL_SELECTED, known).values()][:1]
    return list(dict.fromkeys([first.name, *second, *further]))


def _matches(config: EvaluateConfig, systems: Iterable[System]) -> list[Match]:
    """Return the comparisons seed by seed, or none for a single seed, which is compared anyway."""
    known = list(systems)
    pairs = {of: dict(against) for of, against in config.pairs.items()}
    if members(CONTROL_SELECTED, known):
        student = SystemRole.student.value
        pairs[student] = {**pairs.get(student, {}), CONTROL_SELECTED: True}
    found = matches(pairs, known)
    return found if len(found) > 1 else []


def _absent(config: EvaluateConfig, systems: Iterable[str]) -> list[str]:
    if not config.bootstrap or config.baseline is None:  # nothing is compared
        return []
    names = set(systems)
    return [name for name, wanted in config.further_baselines.items() if wanted and name not in names]


def _could_be(name: str, stage: Stage) -> bool:
    """Return whether a system of this name is possible in the chain, even if this recipe lacks it (an ensemble)."""
    entries = [other.spec for _, other in stage.inputs.get("translations", [])]
    labels = {label for entry in entries for refs in entry.inputs.values() for label in refs}
    return any(name in possible_names(label) for label in labels)


@dataclass(frozen=True)
class _Set:
    """A test set: the indices of its segments, and the leakage guard's verdict."""

    segments: list[int]
    leakage: dict[str, Any]


def _sets(job: Job[EvaluateConfig], ids: Sequence[int]) -> dict[str, _Set]:
    """Return the test sets by name, the main one first. Raise UserError if the main one is missing."""
    places = {pair_id: place for place, pair_id in enumerate(ids)}
    found = {}
    for each in read_sets(job.one("held_out").path):
        if (each.pair, each.use) == (str(job.axis), job.config.set.value):
            segments = [places[pair.id] for pair in each.pairs]
            found[each.corpus or HELD_OUT] = _Set(segments, _leakage(job, each.name))
    main = job.config.main_set
    if not found:
        raise _nothing_to_score(job.config, str(job.axis), job.stage)
    if main is not None and main not in found:
        raise unknown_name("test set (evaluate.main_set)", main, found)
    return dict(sorted(found.items(), key=lambda item: item[0] != main)) if main else found


def _leakage(job: Job[EvaluateConfig], name: str) -> dict[str, Any]:
    """Return the leakage guard's verdict on a set, over the training corpora of this stage."""
    facts = [artifact.manifest.get("facts", {}).get("leakage") for artifact in job.inputs.get("corpora", [])]
    looked = [fact for fact in facts if fact]
    if not looked:
        return {"verdict": "not looked for", "pairs": None}
    if any(fact["mode"] == "off" for fact in looked):
        return {"verdict": "OFF", "pairs": None}
    pairs = sum(sum(fact["sets"].get(name, {}).values()) for fact in looked)
    return {"verdict": f"removed {pairs:,}" if pairs else "clean", "pairs": pairs}


def _judged(
    job: Job[EvaluateConfig],
    segments: Sequence[int],
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    comet_scores: Sequence[CometScores],
    options: Options,
) -> dict[str, Any]:
    """Return the scores on one test set, and the tests against each baseline."""
    metrics = _metrics(job.config)
    outputs = {name: [lines[i] for i in segments] for name, lines in systems.items()}
    texts = [[reference[i] for i in segments] for reference in references]
    comets = [
        CometScores(each.metric, each.signature, {name: [found[i] for i in segments] for name, found in
                                                  each.segments.items()}) for each in comet_scores
    ]  # fmt: skip
    plain = judge(outputs, texts, metrics, comet_scores=comets, options=options)
    significance = {}
    for baseline in _baselines(job.config, _systems(job)):
        job.progress.update(f"resampling {job.config.bootstrap} times, against {baseline}")
        resampling = _resampling(job.config, job.threads)
        found = judge(
            outputs, texts, metrics, comet_scores=comets, baseline=baseline, resampling=resampling, options=options
        )
        significance[baseline] = [asdict(item) for item in found]
    scores = {name: [_score(item) for item in plain if item.system == name] for name in systems}
    pairs = _seed_by_seed(job, outputs, texts, comets, options)
    return {"segments": len(segments), "scores": scores, "significance": significance, "pairs": pairs}


def _systems(job: Job[EvaluateConfig]) -> list[System]:
    return [system_of(artifact) for artifact in job.inputs["translations"]]


def _seed_by_seed(
    job: Job[EvaluateConfig],
    outputs: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    comets: Sequence[CometScores],
    options: Options,
) -> list[dict[str, Any]]:
    resampling = _resampling(job.config, job.threads) if job.config.bootstrap else None
    compared = []
    for match in _matches(job.config, _systems(job)):
        job.progress.update(f"comparing {match.system} with {match.other}")
        compared += compare(
            match,
            outputs,
            references,
            _metrics(job.config),
            comet_scores=comets,
            resampling=resampling,
            options=options,
        )
    return compared


def _score(item: Significance) -> dict[str, Any]:
    return {"metric": item.metric, "value": item.value, "signature": item.signature}


def _comet(
    job: Job[EvaluateConfig], systems: Mapping[str, list[str]], sources: list[str], references: list[list[str]]
) -> list[CometScores]:
    config = job.config.comet
    if not job.config.metrics.get(COMET) or config.model is None:
        return []
    folder = Path(config.cache).expanduser() if config.cache else cache_folder()
    comet = Comet(
        config.model,
        cache=ScoreCache(folder),
        batch_size=config.batch,
        several_references=config.references,
        device=job.device,
    )
    return [comet.scores(systems, sources, references)]


def _training_words(job: Job[EvaluateConfig]) -> Counter[str] | None:
    """Count the words of the target side of the training text, up to a bound; None without training corpora."""
    corpora = job.inputs.get("corpora", [])
    if not corpora:
        return None
    lines = chain.from_iterable(Corpus(artifact.path).column("target") for artifact in corpora)
    return frequencies(islice(lines, TRAINING_SENTENCES))


def _weaknesses(
    config: EvaluateConfig,
    systems: Mapping[str, list[str]],
    sources: list[str],
    references: list[list[str]],
    options: Options,
    guards: Guards,
    baselines: Sequence[str],
    known: Mapping[str, int] | None,
) -> dict[str, Any]:
    """Count faults by system, score every segment, and list the segments furthest behind the last baseline."""
    metrics = _metrics(config)
    counted = {
        name: asdict(
            weaknesses(lines, references, sources, metrics=metrics, options=options, guards=guards, known=known)
        )
        for name, lines in systems.items()
    }
    behind = []
    scores = segment_scores(systems, references, ["chrf"], options)
    if baselines and config.worst:
        behind = worst(scores, SEGMENT_METRIC, baselines[-1], systems, references, sources, config.worst)
    return {
        "systems": counted,
        "baseline": baselines[-1] if baselines else None,
        "worst": [asdict(item) for item in behind],
        "segments": {"metric": SEGMENT_METRIC, "scores": scores[SEGMENT_METRIC]},
    }
