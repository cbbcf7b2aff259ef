"""Release: make a folder for distribution for each export, and for the teachers if quality matters most.

A folder has everything needed for translation, and a model card: usage, data, licences, scores with signatures, speed,
memory, energy, limits. Files are hard links to those of the exports, so a folder takes no space.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact
from kd.base.estimate import Estimate
from kd.base.files import link_file, write_text
from kd.base.records import plain, record
from kd.corpora.index import read_json
from kd.engines.loading import check_translates
from kd.metrics.robustness import Robustness
from kd.models.description import CTRANSLATE2, FAIRSEQ, Languages, Original, known_languages
from kd.models.files import DESCRIPTION
from kd.models.folder import ModelFolder, write_ensemble
from kd.models.known import Known
from kd.models.systems import CONTROL_SELECTED, System, SystemKind, systems_of
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Artifact, Job, Kind, Role, Stage, Summary, TaskSpec
from kd.pipeline.store import MANIFEST
from kd.recipe.schema import ReleaseConfig
from kd.recipe.schema.running import SystemRole
from kd.report.card import UNKNOWN, Card, Corpus, TestSet, render
from kd.report.source_only import source_only
from kd.report.verdict import lessons
from kd.stages.asking import served
from kd.stages.outputs import CARD, ROBUSTNESS, SCORES, SPEED, WEAKNESSES

COLLECT = ("collect", "collect_source")


class Release(Kind[ReleaseConfig]):
    """Make folders with cards."""

    name = "release"
    version = 6  # 5: the card says what was distilled; 6: examples, intended use and packages on the card
    config = ReleaseConfig
    delivers = True
    roles: ClassVar = {
        "systems": Role(many=True),
        "scores": Role(many=True, optional=True),
        "speeds": Role(many=True, optional=True),
        "corpora": Role(many=True, optional=True),
        "others": Role(many=True, optional=True),  # their corpora and energy are on the cards too
    }
    resources = "cpu"

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield a task for each export, and for each system that is requested and exists."""
        config: ReleaseConfig = stage.config
        identity, _ = identity_and_extent(config)
        licences = {name: source.licence for name, source in config.sources.items()}
        for system, items in systems_of(stage.input_tasks("systems"), config.ensembles, packaged=True).items():
            if served(items[0]):  # there is nothing to give away
                continue
            if system.format or config.systems.get(system.name):
                yield TaskSpec(system.name, {**identity, "sources": licences}, subject=plain(system))

    def run(self, job: Job[ReleaseConfig]) -> None:
        """Assemble the folder."""
        from kd.engines.fairseq.model import longest_pieces

        systems = systems_of(job.inputs["systems"], job.config.ensembles, packaged=True)
        (system,) = [each for each in systems if each.name == job.name]
        artifacts = systems[system]
        if system.format:
            for path in sorted(artifacts[0].path.rglob("*")):
                place = job.out / path.relative_to(artifacts[0].path)
                if path.is_file() and path.name != MANIFEST:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    link_file(path, place)
        else:
            languages = known_languages(artifacts[0].path, job.axis_value)
            run = {"models": [f"{each.stage}/{each.task}@{each.fingerprint}" for each in artifacts]}
            models = [ModelFolder.open(each.path) for each in artifacts]
            longest = longest_pieces(models[0].weights)
            write_ensemble(models, job.out, Original(languages, run=run), longest=longest)
        write_text(job.out / CARD, render(_card(job, system, systems)))

    def check(self, job: Job[ReleaseConfig]) -> Summary:
        """Load the model, translate a word, and check that there is a card."""
        if read_json(job.out / DESCRIPTION)["engine"] in (CTRANSLATE2, FAIRSEQ):
            check_translates(job.out)
        if not (job.out / CARD).read_text("utf-8").startswith("---\n"):
            raise IncompleteArtifact(f"{job.out} has no card.")
        size = sum(path.stat().st_size for path in job.out.rglob("*") if path.is_file())
        return Summary({"bytes": size}, facts={"note": "a folder for distribution, with its card" + _unlicensed(job)})

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the tasks by their number; an output is as large as the largest model at most."""
        tasks = {}
        for task in stage.tasks:
            kept = known.largest_model(item.task for item in task.inputs.get("systems", []))
            tasks[task.name] = TaskWork((Work(self.name, "tasks", Estimate(1, "config")),), kept=kept)
        return StageForecast(tasks)


# --- the card --------------------------------------------------------------------------------------------------------


def _card(job: Job[ReleaseConfig], system: System, systems: Mapping[System, Sequence[Artifact]]) -> Card:
    artifacts = systems[system]
    description = read_json(job.out / DESCRIPTION)
    known = Languages.from_json(description)
    source, target = (", ".join(codes) or "und" for codes in (known.source, known.target))
    scores, weak = _left(job, "scores", SCORES), _left(job, "scores", WEAKNESSES)
    several = len(scores) > 1
    # The model is the same for all language pairs, and a card has one table: the first pair's speed.
    pair, speed = next(iter(_left(job, "speeds", SPEED).items()), ("", {}))
    scored = system.trained if system.packaged else system
    beside = [each.name for each in _beside(system, [*systems, *_scored_everywhere(scores)])]
    counted = {name: each["systems"][scored.name] for name, each in weak.items() if scored.name in each["systems"]}
    parameters = [_facts(each).get("parameters") or _facts(each).get("run", {}).get("parameters") for each in artifacts]
    return Card(
        name=job.name,
        title=job.config.title or f"{source}{' to ' if several else '-'}{target}: {job.name}",
        source=source,
        target=target,
        engine=str(description["engine"]),
        description=description,
        licence=job.config.licence,
        text=job.config.text,
        parameters=sum(parameters) if all(parameters) else None,
        corpora=_corpora(job),
        training_pairs=sum(each.manifest["counts"]["pairs out"] for each in job.inputs.get("corpora", [])) or None,
        sets=[
            _set(name, content, scored.name, beside, axis if several else "", _baseline(system, evaluation))
            for axis, evaluation in scores.items()
            for name, content in evaluation.get("sets", {}).items()
        ],
        scores_of=scored.name if scored is not system else "",
        speed=speed.get("systems", {}).get(job.name),
        speed_note=f"{pair}, {speed.get('note', '')}" if several and speed else speed.get("note", ""),
        speeds={name: speed["systems"][name] for name in beside if name in speed.get("systems", {})},
        weaknesses=None if several else next(iter(counted.values()), None),
        weaknesses_of=counted if several else {},
        robustness={
            axis if several else "": _robustness(content["systems"], job.name, scored.name, beside)
            for axis, content in _left(job, "scores", ROBUSTNESS).items()
            if scored.name in content["systems"]
        },
        energy=_energy(job),
        mfu=_mfu(job, system),
        machine=str(job.machine.get("name") or "this machine"),
        fingerprints={f"{each.stage}/{each.task}": each.fingerprint for each in _all(job)},
        made_by=f"kd {version('kd')}",
        lessons=_lessons(job, system),
    )


def _unlicensed(job: Job[ReleaseConfig]) -> str:
    return "" if job.config.licence else "; no licence was chosen: set release.licence"


def _lessons(job: Job[ReleaseConfig], system: System) -> str:
    """Describe what the student, exported or not, learned from its teachers; empty for any other model."""
    if system.label != SystemRole.student.value:
        return ""
    trained = [each for each in job.inputs["systems"] if each.label == system.label]
    selection = next((each.settings for each in job.inputs.get("others", []) if each.label == "select"), {})
    return lessons(trained[0].settings, selection, source_only(trained)) if trained else ""


def _mfu(job: Job[ReleaseConfig], system: System) -> float | None:
    """Return the model FLOPs utilisation of the system's trainings, their mean; None if it was not measured."""
    trained = [each for each in job.inputs["systems"] if each.label == system.label]
    known = [share for each in trained if (share := _facts(each).get("mfu")) is not None]
    return statistics.fmean(known) if known else None


def _facts(artifact: Artifact) -> dict[str, Any]:
    facts: dict[str, Any] = artifact.manifest["facts"]
    return facts


def _all(job: Job[ReleaseConfig]) -> list[Artifact]:
    return [artifact for artifacts in job.inputs.values() for artifact in artifacts]


def _left(job: Job[ReleaseConfig], role: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the JSON output of a stage by language pair; empty if the recipe has no such stage or output."""
    artifacts = [artifact for artifact in job.inputs.get(role, []) if (artifact.path / name).is_file()]
    return {str(artifact.axis): read_json(artifact.path / name) for artifact in artifacts}


def _robustness(systems: Mapping[str, Any], name: str, scored: str, beside: Sequence[str]) -> dict[str, Robustness]:
    """Return the results of a system and those beside it on the robustness suite, by name."""
    wanted = {name: scored, **{other: other for other in beside if other in systems}}
    return {shown: record(Robustness, systems[each], ROBUSTNESS) for shown, each in wanted.items()}


def _scored_everywhere(scores: Mapping[str, Mapping[str, Any]]) -> list[System]:
    """Return the systems that are scored in every language pair's evaluation."""
    names = [set(content["scores"]) for content in scores.values()]
    found = [record(System, each, SCORES) for content in scores.values() for each in content["systems"]]
    return [system for system in found if all(system.name in each for each in names)]


def _beside(own: System, systems: Iterable[System]) -> list[System]:
    """Return the systems with which a card compares its model, in order.

    They are the ensembles, a teacher alone, the trained student, the controls of its seed, an external system, and, for
    a model of several language pairs, a student of a single pair.
    """
    known = {system.name: system for system in systems}
    by_kind = {kind: [each for each in known.values() if each.kind is kind] for kind in SystemKind}
    students = by_kind[SystemKind.student]
    controls = [each for each in by_kind[SystemKind.control] if each.label != CONTROL_SELECTED]
    second = [each for each in by_kind[SystemKind.control] if each.label == CONTROL_SELECTED]
    wanted = [
        *by_kind[SystemKind.ensemble],
        *by_kind[SystemKind.teacher][:1],
        *([own.trained] if own.trained in students else students[:1]),
        *([each for each in controls if each.seed == own.seed] or controls)[:1],
        *([each for each in second if each.seed == own.seed] or second)[:1],
        *([each for each in students if each.pair][:1] if own.pair is None else []),
        *by_kind[SystemKind.external],
    ]
    return [each for each in dict.fromkeys(wanted) if each.name != own.name]


def _baseline(own: System, evaluation: Mapping[str, Any]) -> str | None:
    """Return the system that a card's p-values are against: the teacher for an export, else the first baseline."""
    names = list(evaluation["significance"])
    systems = [record(System, values, SCORES) for values in evaluation["systems"]]
    teachers = [each.name for each in systems if each.kind in (SystemKind.ensemble, SystemKind.teacher)]
    of_teachers = [name for name in names if name in teachers] if own.format else []
    return next(iter([*of_teachers, *names]), None)


def _set(
    name: str, content: Mapping[str, Any], system: str, beside: Sequence[str], pair: str, baseline: str | None
) -> TestSet:
    """Collect the scores on a test set, with intervals, and the test against the baseline."""
    tested: dict[tuple[str, str], dict[str, Any]] = {}
    for item in content["significance"].get(baseline or "", []):
        tested[item["system"], item["metric"]] = item

    untested = {"interval": None, "p_value": None, "baseline": baseline}

    def scores(each: str) -> list[dict[str, Any]]:
        return [
            {**untested, **tested.get((each, score["metric"]), {}), **score}
            for score in content["scores"].get(each, [])
        ]

    others = {each: scores(each) for each in beside if each in content["scores"]}
    return TestSet(name, content["segments"], content["leakage"]["verdict"], scores(system), others, pair)


def _corpora(job: Job[ReleaseConfig]) -> list[Corpus]:
    """Return the collected corpora of all language pairs, with the licences currently stated in the recipe."""
    stated = {name: source.licence for name, source in job.config.sources.items()}
    found: dict[str, Corpus] = {}
    for artifact in job.inputs.get("others", []):
        if artifact.manifest["kind"] in COLLECT:
            name, facts = artifact.task, _facts(artifact)
            licence = stated.get(name, UNKNOWN)
            if licence == UNKNOWN:  # collect may have read it on the card of the data set
                licence = facts.get("licence") or UNKNOWN
            before = found[name].pairs or 0 if name in found else 0
            pairs = before + artifact.manifest["counts"]["pairs out"]
            found[name] = Corpus(name, licence, facts.get("use", "train"), pairs)
    return list(found.values())


def _energy(job: Job[ReleaseConfig]) -> dict[str, Any]:
    """Add up the measured energy; name the stages that measured it, and those that did not."""
    kwh, carbon, measured, missing = 0.0, 0.0, [], []
    known = True
    for artifact in [*job.inputs["systems"], *job.inputs.get("others", [])]:
        energy = artifact.manifest.get("energy") or {}
        name = artifact.stage.partition(".")[0]
        if energy.get("kwh") is None:
            missing.append(name)
            continue
        measured.append(name)
        kwh += energy["kwh"]
        known = known and energy.get("kg_co2e") is not None
        carbon += energy.get("kg_co2e") or 0.0
    return {
        "kwh": kwh if measured else None,
        "kg_co2e": carbon if measured and known else None,
        "of": list(dict.fromkeys(measured)),
        "missing": [name for name in dict.fromkeys(missing) if name not in measured],
    }
