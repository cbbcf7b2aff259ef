"""Gathers what is known of a recipe and its machine, and forecasts from it. Nothing is submitted, no run is written to.

What is known: manifests of this and earlier runs in the store, probes in the user's cache, and what the user assumes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from rich.console import Console

from kd.base.errors import UserError
from kd.pipeline.model import Task
from kd.pipeline.plan import Plan
from kd.pipeline.run import Run
from kd.pipeline.store import Store, folder_bytes
from kd.planning.assumptions import PREFIX, Assumptions, take
from kd.planning.figures import ASSUMED, Figure
from kd.planning.forecast import Forecast, Forecaster
from kd.planning.made_up import generated
from kd.planning.probe import Probe, cache_folder, kept_probes, probe
from kd.planning.rates import Observation, Rates, lengths, manifests, observe
from kd.planning.sample import PAIRS, Sample, look
from kd.planning.volume import Text, Volume
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.schema import LauncherConfig, MachineConfig


def forecast(arguments: Sequence[str], *, probing: str | None = None) -> Forecast:
    """What a run with these overrides would take. probing: `all`, `text` (what needs no model), or None."""
    assumptions, overrides = take(arguments)
    request = compose.parse_request(overrides)
    config = compose.compose(request)
    plan = _plan(config, assumptions)
    assumptions.check_stages([name for stage in plan.stages for name in (stage.name, stage.spec.name)], config.pairs)
    store = Store(Path(config.store.dir))
    machine, launcher = _machine(config), _launcher(config)
    sample = look(plan, store, PAIRS)
    if probing:
        _probe(config, sample, launcher, models=probing == "all")
    known = _Known.gather(config, plan, store, sample, assumptions)
    rates = Rates(known.observations, assumptions)
    chosen = _wanted(plan, request)
    sizes = {task: float(folder_bytes(store.paths(task).final)) for task in known.volume.manifests}
    found = Forecaster(plan, known.volume, rates, machine, launcher, sizes).forecast(
        str(config.recipe), chosen, sample.data_in
    )
    found.notes = known.notes
    found.measured = found.stands_on({each.source for each in known.observations})
    return found


def _plan(config: DictConfig, assumptions: Assumptions) -> Plan:
    """The chain; where the user assumes the size of a corpus, its files need not be there."""
    try:
        return compose.plan(config)
    except UserError as error:
        without_files = compose.plan(config, frozen_files={})  # what is wrong but for files is told as it is
        if not any(key.startswith("pairs.") for key in assumptions.values):
            pairs = ", ".join(f"{PREFIX}pairs.{name}=NUMBER" for name in config.pairs)
            raise UserError(error.problem, f"{error.hint} To plan before the corpora are there, say {pairs}.") from None
        return without_files


def _wanted(plan: Plan, request: Request) -> list[Task]:
    """The tasks that `kd run` would look at: all, those of stages=, or what upto= needs."""
    return [task for stage in plan.asked_for(request.stages, request.upto) for task in stage.tasks]


def _machine(config: DictConfig) -> MachineConfig:
    """The machine's facts; what its file leaves open (`???`) is unknown, and no number may be."""
    plain = OmegaConf.to_container(config.machine, resolve=True)
    assert isinstance(plain, dict)
    groups = {"machine": plain}
    groups |= {f"machine.resources.{name}": each for name, each in (plain["resources"] or {}).items()}
    for where, values in groups.items():
        for key in [key for key, value in values.items() if value == MISSING]:
            if key in ("gpus_per_node", "cores", "hours", "gpus"):
                raise UserError(f"A setting has no value: {where}.{key}.", "The machine's own pages tell it.")
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

    return LauncherConfig(kind=str(plain["kind"]), processes=number("processes"), threads=number("threads"))


def _probe(config: DictConfig, sample: Sample, launcher: LauncherConfig, *, models: bool) -> None:
    pairs, told = sample.pairs, sample.told
    if not pairs:
        pairs, told = list(generated(PAIRS)), f"{PAIRS:,} made-up sentences, since the corpora are not here"
    console = Console(stderr=True, highlight=False)
    console.print(f"Probing with {told}: a minute or so …", soft_wrap=True)
    resolved = compose.resolve(config)
    found = probe(resolved, pairs, told, threads=max(1, launcher.threads // launcher.processes), models=models)
    console.print(f"Kept in {cache_folder()}: {found.text}", soft_wrap=True)


@dataclass
class _Known:
    """All that was measured, and the sizes of this recipe."""

    volume: Volume
    observations: list[Observation]
    notes: list[str]

    @staticmethod
    def gather(config: DictConfig, plan: Plan, store: Store, sample: Sample, assumptions: Assumptions) -> _Known:
        probes = kept_probes(cache_folder())
        observations = [each for item in probes for each in item.observations]
        observations += [each for folder in store.runs() for each in _of_run(folder, store)]
        own = next((item for item in probes if item.recipe == config.recipe), None)
        done = manifests(plan, store)
        volume = _volume(config, plan, assumptions, own)
        volume.manifests = done
        volume.sample = _lengths(assumptions, lengths(plan, done), own)
        volume.collected = sample.collected
        _set_held_out(volume, config)
        for stage in plan.stages:
            volume.follow(stage)
        return _Known(volume, observations, list(_notes(volume, own)))


def _notes(volume: Volume, own: Probe | None) -> Iterator[str]:
    if own is not None and volume.kept.source == own.label:
        yield f"Of the collected pairs cleaning keeps {volume.kept.value or 1:.0%} ({volume.kept.source})."
    text = volume.sample
    if text.source_pieces and text.target_pieces:
        for side, figure in (("source", text.source_pieces), ("target", text.target_pieces)):
            if not figure.source.startswith(ASSUMED):
                yield f"{figure.value:.1f} pieces a {side} sentence: {figure.source}."


def _volume(config: DictConfig, plan: Plan, assumptions: Assumptions, own: Probe | None) -> Volume:
    if assumed := assumptions.get("kept"):
        kept = assumed
    elif own is not None and own.kept is not None:
        kept = Figure(own.kept, own.label)
    else:
        kept = Figure(1.0, "nobody measured what cleaning drops: all pairs are counted")
    return Volume(assumptions, int(config.vocabulary.size), kept, Text())


def _lengths(assumptions: Assumptions, counted: Text, own: Probe | None) -> Text:
    """Lengths of sentences: assumed, else counted in what is done, else as the probe found them."""
    probed = own.sample() if own is not None else Text()
    chosen: dict[str, Figure] = {}
    for name in ("source_pieces", "target_pieces", "pair_bytes", "steps"):
        assumed = assumptions.get({"pair_bytes": "bytes_per_pair"}.get(name, name)) if name != "steps" else None
        chosen[name] = assumed or getattr(counted, name) or getattr(probed, name) or Figure(None, UNKNOWN_LENGTH)
    text = Text(**chosen)
    if probed.steps and probed.target_pieces and text.target_pieces:
        stretch = (probed.steps.value or 1.0) / (probed.target_pieces.value or 1.0)
        text = replace(text, steps=text.target_pieces.times(Figure(stretch, probed.steps.source)))
    return text


UNKNOWN_LENGTH = "how long sentences are: probe, or say assume.source_pieces= and assume.target_pieces="


def _set_held_out(volume: Volume, config: DictConfig) -> None:
    """Sentences of the test and dev sets of a language pair: those of the split that is done, or of the config."""
    for use in ("dev", "test"):
        number = int(OmegaConf.select(config, f"split.{use}") or 1000)
        for task, manifest in volume.manifests.items():
            if task.stage.kind.name == "split":
                found = [value for key, value in manifest["counts"].items() if key.startswith(f"{use} pairs")]
                number = max(found, default=number)
        for name, pairs in volume.collected.items():
            given = config.corpus.sources.get(name.partition("/")[2])
            if given is not None and getattr(given.use, "value", given.use) == use and pairs.value is not None:
                number = int(pairs.value)
        if use == "dev":
            volume.dev = number
        else:
            volume.held_out = number


def _of_run(folder: Path, store: Store) -> list[Observation]:
    """What an earlier run's manifests tell; nothing where another version of kd wrote it."""
    with contextlib.suppress(UserError, OSError, ValueError, LookupError, TypeError, AttributeError):
        run_ = Run(folder)
        record: dict[str, Any] = run_.frozen(json.loads((folder / "plan.json").read_text("utf-8"))["config"])
        config = compose.thaw(record["config"])
        plan = compose.plan(config, record["files"])
        done = manifests(plan, store)
        volume = Volume(Assumptions({}), int(config.vocabulary.size), Figure(1.0), lengths(plan, done))
        volume.manifests = done
        _set_held_out(volume, config)
        for stage in plan.stages:
            volume.follow(stage)
        return list(observe(plan, store, volume, f"run {folder.name}"))
    return []
