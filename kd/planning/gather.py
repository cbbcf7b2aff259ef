"""Gather the known facts of a recipe and its machine, and forecast from them. Submit nothing, and write to no run.

Sources are the manifests of this and earlier runs in the store, probes in the user's cache, and the user's assumptions.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console

from kd.base.errors import UserError
from kd.base.estimate import ASSUMED, Estimate
from kd.launch.servers import check_servers
from kd.models.known import Known, Text
from kd.pipeline.plan import Plan
from kd.pipeline.run import Run
from kd.pipeline.store import Store, folder_bytes
from kd.planning import too_large
from kd.planning.application import read_licences, read_scaling
from kd.planning.assumptions import PREFIX, Assumptions, parse_assumptions
from kd.planning.forecast import Forecast
from kd.planning.forecaster import Forecaster
from kd.planning.probe import Probe, cache_folder, kept_probes, probe
from kd.planning.rates import Observation, Rates, lengths, manifests, observe
from kd.planning.sample import PAIRS, Sample, look
from kd.planning.synthetic import generated
from kd.recipe import compose
from kd.recipe.changes import changes
from kd.recipe.schema import LauncherConfig, LauncherKind, MachineConfig, SplitConfig

_ALL_KEPT = Estimate(1.0, "the share of pairs that cleaning keeps was not measured: all pairs are counted")
_LOOK_SECONDS = 2.0  # of a run's start: larger corpora are estimated from the part read by then
_ACCOUNT = "PROJECT"  # stands in for an account that is not known yet
_UNKNOWN_LENGTH = Estimate(
    None,
    "the length of sentences is not known: add --probe, or set assume.source_pieces= and assume.target_pieces=",
)


def forecast(arguments: Sequence[str], *, probing: str | None = None) -> Forecast:
    """Forecast a run with these overrides. probing: `all`, `text` (stages without models), or None."""
    assumptions, overrides = parse_assumptions(arguments)
    request = compose.parse_request(overrides)
    config = _composed(request)
    plan = _plan(config, assumptions)
    assumptions.check_stages([name for stage in plan.stages for name in (stage.name, stage.spec.name)], config.pairs)
    store = Store(Path(config.store.dir))
    machine, launcher = _machine(config), _launcher(config)
    if launcher.kind != "local" or machine.resources:
        check_servers(plan.stages, machine)
    sample = look(plan, store, PAIRS)
    if probing:
        _probe(config, sample, launcher, models=probing == "all")
    probes = kept_probes(cache_folder())
    own = next((item for item in probes if item.recipe == config.recipe), None)
    known = _known(config, plan, store, sample, assumptions, own)
    observations = [each for item in probes for each in item.observations]
    observations += [each for folder in store.runs() for each in _of_run(folder, store)]
    forecaster = Forecaster(plan, known, Rates(observations, assumptions), assumptions, machine, launcher)
    # The tasks that `kd run` would run: all, those of stages=, or those that upto= needs.
    chosen = [task for stage in plan.asked_for(request.stages, request.upto) for task in stage.tasks]
    sizes = {task: float(folder_bytes(store.paths(task).final)) for task in known.done}
    found = forecaster.forecast(str(config.recipe), chosen, sizes, sample.data_in)
    found.notes = list(_notes(known, own))
    found.changes = changes(request, config)
    found.warnings = list(too_large.warnings(plan.stages, known, sample.pairs))
    found.licences, found.scaling = read_licences(config), read_scaling(config.run.dir)
    found.measured = found.uses({each.source for each in observations})
    return found


def size_warnings(plan: Plan, config: DictConfig, store: Store) -> list[str]:
    """Return warnings of held-out sets and vocabularies that are too large, unless the corpora are split already.

    Returns none if a corpus cannot be read; its stage `collect` reports the fault, or skips the rows.
    """
    splits = [task for stage in plan.stages if isinstance(stage.config, SplitConfig) for task in stage.tasks]
    if not splits or any(store.paths(task).is_published() for task in splits):
        return []
    try:
        sample = look(plan, store, PAIRS, seconds=_LOOK_SECONDS)
    except (UserError, OSError):
        return []
    known = _known(config, plan, store, sample, Assumptions({}), None)
    return list(too_large.warnings(plan.stages, known, sample.pairs))


def _composed(request: compose.Request) -> DictConfig:
    """Compose the recipe; an unknown project account gets a placeholder, since forecasts do not depend on it.

    Machine files may derive other settings from the account, such as `${machine.account}g`.
    """
    try:
        return compose.compose(request)
    except UserError:
        path = compose.find(request.recipe)
        with compose.as_user_errors(path, request.overrides):
            missing = OmegaConf.is_missing(compose.composed(path, request.overrides).machine, "account")
        if not missing:
            raise
        return compose.compose(replace(request, overrides=(*request.overrides, f"machine.account={_ACCOUNT}")))


def _plan(config: DictConfig, assumptions: Assumptions) -> Plan:
    """Plan the chain; if the user assumes the size of a corpus, its files need not exist."""
    try:
        return compose.plan(config)
    except UserError as error:
        without_files = compose.plan(config, frozen_files={})  # raises every error that is not about files
        if not any(key.startswith("pairs.") for key in assumptions.values):
            pairs = ", ".join(f"{PREFIX}pairs.{name}=NUMBER" for name in config.pairs)
            raise UserError(
                error.problem, f"{error.hint} To plan before the corpora are available, add {pairs}."
            ) from None
        return without_files


def _machine(config: DictConfig) -> MachineConfig:
    """Return the machine's facts; a value left open in its file (`???`) is unknown, but numbers must be set."""
    plain = OmegaConf.to_container(config.machine, resolve=True)
    assert isinstance(plain, dict)
    groups = {"machine": plain}
    groups |= {f"machine.resources.{name}": each for name, each in (plain["resources"] or {}).items()}
    for where, values in groups.items():
        for key in [key for key, value in values.items() if value == MISSING]:
            if key in ("gpus_per_node", "cores", "hours", "gpus"):
                raise UserError(f"A setting has no value: {where}.{key}.", "See the documentation of the machine.")
            del values[key]
    merged = OmegaConf.merge(OmegaConf.structured(MachineConfig), plain)
    for key in OmegaConf.missing_keys(merged):
        OmegaConf.update(merged, key, None)  # such as an account: a forecast needs none
    machine = OmegaConf.to_object(merged)
    assert isinstance(machine, MachineConfig)
    return machine


def _launcher(config: DictConfig) -> LauncherConfig:
    plain = OmegaConf.to_container(config.launcher, resolve=True)
    assert isinstance(plain, dict)

    def number(key: str) -> int:
        value = plain.get(key)
        return int(value) if isinstance(value, int) and value > 0 else 1

    return LauncherConfig(
        kind=LauncherKind(str(plain["kind"])), processes=number("processes"), threads=number("threads")
    )


def _probe(config: DictConfig, sample: Sample, launcher: LauncherConfig, *, models: bool) -> None:
    pairs, source = sample.pairs, sample.source
    if not pairs:
        pairs, source = list(generated(PAIRS)), f"{PAIRS:,} generated sentences, since the corpora are not here"
    console = Console(stderr=True, highlight=False)
    console.print(f"Probing with {source}; this takes about a minute.", soft_wrap=True)
    threads = max(1, launcher.threads // launcher.processes)
    found = probe(compose.resolve(config), pairs, source, threads=threads, models=models)
    console.print(f"Kept in {cache_folder()}: {found.text}", soft_wrap=True)


def _known(
    config: DictConfig, plan: Plan, store: Store, sample: Sample, assumptions: Assumptions, own: Probe | None
) -> Known:
    """Return the known sizes of this recipe. own: the recipe's probe."""
    done = manifests(plan, store)
    probed = Estimate(own.kept, own.label) if own is not None and own.kept is not None else None
    known = Known(
        vocabulary=int(config.vocabulary.size),
        kept=assumptions.get("kept") or probed or _ALL_KEPT,
        sample=_lengths(assumptions, lengths(done), own.sample() if own is not None else Text()),
        collected=sample.collected,
        done=done,
        assumed=assumptions.get,
    )
    return _follow(known, plan, config)


def _follow(known: Known, plan: Plan, config: DictConfig) -> Known:
    """Add the sizes of the held-out sets and the forecasts of all stages."""
    known.dev, known.test = _held_out(known, config, "dev"), _held_out(known, config, "test")
    for stage in plan.stages:
        known.add(stage)
    return known


def _held_out(known: Known, config: DictConfig, use: str) -> int:
    """Return the sentences of a language pair's dev or test set: from the finished split, or from the config."""
    number = int(OmegaConf.select(config, f"split.{use}") or 1000)
    for task, manifest in known.done.items():
        if isinstance(task.stage.config, SplitConfig):
            found = [value for key, value in manifest["counts"].items() if key.startswith(f"{use} pairs")]
            number = max(found, default=number)
    for name, pairs in known.collected.items():
        given = config.corpus.sources.get(name.partition("/")[2])
        if given is not None and getattr(given.use, "value", given.use) == use and pairs.value is not None:
            number = int(pairs.value)
    return number


def _lengths(assumptions: Assumptions, counted: Text, probed: Text) -> Text:
    """Return the lengths of sentences: assumed, else counted in finished tasks, else measured by the probe."""

    def length(name: str, key: str = "") -> Estimate:
        assumed = assumptions.get(key) if key else None
        return assumed or getattr(counted, name) or getattr(probed, name) or _UNKNOWN_LENGTH

    text = Text(
        source_tokens=length("source_tokens", "source_pieces"),
        target_tokens=length("target_tokens", "target_pieces"),
        pair_bytes=length("pair_bytes", "bytes_per_pair"),
        steps=length("steps"),
    )
    if probed.steps and probed.target_tokens and text.target_tokens:
        stretch = (probed.steps.value or 1.0) / (probed.target_tokens.value or 1.0)
        text = replace(text, steps=text.target_tokens.times(Estimate(stretch, probed.steps.source)))
    return text


def _notes(known: Known, own: Probe | None) -> Iterator[str]:
    if own is not None and known.kept.source == own.label:
        yield f"Cleaning keeps, of the collected pairs, {known.kept.value or 1:.0%} ({known.kept.source})."
    text = known.sample
    if text.source_tokens and text.target_tokens:
        for side, estimate in (("source", text.source_tokens), ("target", text.target_tokens)):
            if not estimate.source.startswith(ASSUMED):
                yield f"{estimate.value:.1f} tokens per {side} sentence: {estimate.source}."


def _of_run(folder: Path, store: Store) -> list[Observation]:
    """Return the observations from an earlier run's manifests; empty if another version of kd wrote the run."""
    with contextlib.suppress(UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
        record: dict[str, Any] = Run(folder).frozen(json.loads((folder / "plan.json").read_text("utf-8"))["config"])
        config = compose.thaw(record["config"])
        plan = compose.plan(config, record["files"])
        done = manifests(plan, store)
        known = _follow(Known(int(config.vocabulary.size), sample=lengths(done), done=done), plan, config)
        return list(observe(store, known, f"run {folder.name}"))
    return []
