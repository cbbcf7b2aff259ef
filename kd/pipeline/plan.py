"""From a recipe's chain to stages and tasks with fingerprints: everything follows from config, before anything has run.

The chain is a mapping of named stages; a stage `over` an axis (the language pairs) becomes one instance per value.
"""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.pipeline.contract import Draft, Input, Kind, Role
from kd.pipeline.fingerprint import canonical, digest

RESERVED = ("configs", "logs", "plan.json", "slurm")  # what else stands in a run's folder


@dataclass(frozen=True)
class Entry:
    """A stage as the recipe declares it. `inputs`: role -> label -> name of a stage."""

    name: str
    kind: Kind[Any]
    config: Any
    inputs: Mapping[str, Mapping[str, str]]
    over: str | None = None
    enabled: bool = True
    after: tuple[str, ...] = ()  # stages to wait for without reading from them


@dataclass(eq=False, repr=False)  # each knows all it stands on: shown whole, a plan fills memory
class Stage:
    """A stage instance: an entry, for one value of its axis."""

    name: str
    entry: Entry
    axis: str | None  # the value's name, such as `en-de`
    axis_value: Mapping[str, Any]
    inputs: Mapping[str, list[tuple[str, Stage]]]  # role -> (label, stage)
    after: list[Stage] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Stage({self.name})"

    @property
    def config(self) -> Any:
        """The typed config of the kind."""
        return self.entry.config

    @property
    def kind(self) -> Kind[Any]:
        """What it does."""
        return self.entry.kind

    def upstream(self) -> Iterator[Stage]:
        """Every stage that it stands on, each once."""
        seen: set[Stage] = set()
        todo: list[Stage] = [self]
        while todo:
            for others in todo.pop().inputs.values():
                for _, other in others:
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
                        yield other

    def axis_values(self) -> dict[str, Mapping[str, Any]]:
        """Its own axis value by name; where it has none, those of all that it reads from, directly or not."""
        if self.axis is not None:
            return {self.axis: self.axis_value}
        upstream = [stage for inputs in self.inputs.values() for _, stage in inputs]
        return {name: value for stage in upstream for name, value in stage.axis_values().items()}

    def input_tasks(self, role: str) -> list[Input]:
        """Every task of every stage of a role."""
        return [Input(label, task) for label, stage in self.inputs.get(role, []) for task in stage.tasks]


@dataclass(eq=False, repr=False)
class Task:
    """One independently restartable piece of a stage."""

    stage: Stage
    name: str
    fingerprint: str
    lineage: str  # the fingerprint without how far the work goes
    identity: Mapping[str, Any]
    inputs: Mapping[str, list[Input]]
    files: Mapping[Path, str]

    def __repr__(self) -> str:
        return f"Task({self.full_name}@{self.fingerprint})"

    @property
    def full_name(self) -> str:
        """`stage/task`."""
        return f"{self.stage.name}/{self.name}"

    @property
    def relative(self) -> Path:
        """Where its output stands in a store."""
        return Path(self.stage.name, self.fingerprint, self.name)

    def upstream(self) -> Iterator[Task]:
        """The tasks it reads from."""
        for inputs in self.inputs.values():
            for item in inputs:
                yield item.task


class Plan:
    """All stages of a recipe in an order in which they can run."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        self._by_name = {stage.name: stage for stage in stages}

    def tasks(self) -> Iterator[Task]:
        """Every task, upstream before downstream."""
        for stage in self.stages:
            yield from stage.tasks

    def find(self, name: str) -> list[Stage]:
        """The stages called `name`: an instance (`teacher.en-de`) or all instances of an entry (`teacher`)."""
        found = [stage for stage in self.stages if name in (stage.name, stage.entry.name)]
        if not found:
            raise unknown("stage", name, [*self._by_name, *{stage.entry.name for stage in self.stages}])
        return found

    def task(self, stage: str, task: str) -> Task:
        """One task by name."""
        if stage not in self._by_name:
            raise unknown("stage", stage, self._by_name)
        tasks = {item.name: item for item in self._by_name[stage].tasks}
        if task not in tasks:
            raise unknown(f"task of {stage}", task, tasks)
        return tasks[task]

    def asked_for(self, names: Sequence[str] = (), upto: str | None = None) -> list[Stage]:
        """The stages of these names, or all that the one named by `upto` needs; all where nothing is named.

        Raises: UserError for both together, or a name that there is not.
        """
        if names and upto:
            raise UserError("stages= and upto= exclude each other.", "Give one of them.")
        if upto:
            return self.needed_for(self.find(upto))
        if not names:
            return self.stages
        named = {stage for name in names for stage in self.find(name)}
        return [stage for stage in self.stages if stage in named]

    def needed_for(self, stages: Iterable[Stage]) -> list[Stage]:
        """These stages and all they stand on, in order."""
        wanted: set[Stage] = set()
        todo = list(stages)
        while todo:
            stage = todo.pop()
            if stage not in wanted:
                wanted.add(stage)
                todo += [other for inputs in stage.inputs.values() for _, other in inputs]
        return [stage for stage in self.stages if stage in wanted]


def build(
    entries: Mapping[str, Entry],
    axes: Mapping[str, Mapping[str, Any]],
    hash_file: Callable[[Path], str],
    frozen_files: Mapping[str, Mapping[str, str]] | None = None,
) -> Plan:
    """Plans a chain, or raises UserError for one without sense. `axes`: axis -> value name -> what the value holds.

    `frozen_files`: task -> raw file -> content hash, as of an earlier planning; the disk is not asked then.
    """

    def files_of(task: str, draft: Draft) -> Mapping[Path, str]:
        if frozen_files is not None:
            return {Path(path): value for path, value in frozen_files.get(task, {}).items()}
        return {path: hash_file(path) for path in (draft.files() if callable(draft.files) else draft.files)}

    for name in entries:
        _check_name(name, "stage", reserved=RESERVED, forbidden="./")
    for named in axes.values():
        for value in named:
            _check_name(value, "value of an axis", forbidden="/")
    enabled = {name: entry for name, entry in entries.items() if entry.enabled}
    stages: dict[str, list[Stage]] = {}
    for name in _order(enabled, entries):
        entry = enabled[name]
        values: Mapping[str, Any] = {"": {}}
        if entry.over is not None:
            if entry.over not in axes:
                raise unknown(f"axis of chain.{name}.over", entry.over, axes)
            values = axes[entry.over]
            if not values:
                raise UserError(
                    f"The stage {name} runs over {entry.over}, and there are none.", f"Add one to {entry.over}."
                )
        stages[name] = [_instance(entry, value, axes, stages, enabled, files_of) for value in values]
    return Plan([stage for name in stages for stage in stages[name]])


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The sentence for a name that does not exist, with the nearest that do."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1)
    mend = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names) or 'none'}."
    return UserError(f"There is no {what} called {name}.", mend)


def _check_name(name: str, what: str, *, forbidden: str, reserved: Iterable[str] = ()) -> None:
    """Names become names of folders in the store and in the run."""
    wrong = next((char for char in name if char in forbidden or not char.isprintable()), None)
    if wrong is not None:
        raise UserError(f"The {what} {name!r} has {wrong!r} in its name.", "Call it something else.")
    if not name or name.startswith((".", "-")) or name in reserved:
        raise UserError(f"A {what} cannot be called {name!r}.", "Call it something else.")


def _order(enabled: Mapping[str, Entry], entries: Mapping[str, Entry]) -> list[str]:
    graph: dict[str, list[str]] = {}
    for name, entry in enabled.items():
        graph[name] = [ref for _, _, ref in _references(entry, enabled, entries)]
        after = [_base(ref, entries, f"chain.{name}.after") for ref in entry.after]
        graph[name] += [base for base in after if base in enabled]
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        ring = " -> ".join(reversed(error.args[1]))
        raise UserError(f"The chain runs in a circle: {ring}.", "Take one of these inputs away.") from None


def _references(
    entry: Entry, enabled: Mapping[str, Entry], entries: Mapping[str, Entry]
) -> Iterator[tuple[str, str, str]]:
    """Role, label and entry name of each input; those of many that are switched off are left out."""
    for role, refs in entry.inputs.items():
        if role not in entry.kind.roles:
            raise unknown(f"input of the kind {entry.kind.name}", role, entry.kind.roles)
        spec: Role = entry.kind.roles[role]
        if len(refs) > 1 and not spec.many:
            raise UserError(f"chain.{entry.name}.inputs.{role} names several stages.", "It takes one.")
        for label, ref in refs.items():
            base = _base(ref, entries, f"chain.{entry.name}.inputs.{role}")
            if base in enabled:
                yield role, label, base
            elif not (spec.many or spec.optional):
                raise UserError(
                    f"The stage {entry.name} reads from {base}, which is switched off.",
                    f"Switch on chain.{base}.enabled, or switch off {entry.name} as well.",
                )
    for role, spec in entry.kind.roles.items():
        if spec.optional:
            continue
        refs = entry.inputs.get(role, {})
        if not refs:
            raise UserError(f"The stage {entry.name} lacks its input {role}.", f"Set chain.{entry.name}.inputs.{role}.")
        if not any(_enabled(ref, enabled) for ref in refs.values()):
            raise UserError(
                f"The stage {entry.name} lacks its input {role}: {', '.join(refs.values())} is switched off.",
                f"Switch off {entry.name} as well, by chain.{entry.name}.enabled=false.",
            )


def _base(ref: str, entries: Mapping[str, Entry], where: str) -> str:
    if ref in entries:
        return ref
    base = ref.partition(".")[0]  # `teacher.en-de` names an instance of `teacher`
    if base in entries and entries[base].over is not None:
        return base
    raise unknown(f"stage (named by {where})", ref, entries)


def _enabled(ref: str, enabled: Mapping[str, Entry]) -> bool:
    return ref in enabled or ref.partition(".")[0] in enabled


def _instance(
    entry: Entry,
    value: str,
    axes: Mapping[str, Mapping[str, Any]],
    stages: Mapping[str, list[Stage]],
    enabled: Mapping[str, Entry],
    files_of: Callable[[str, Draft], Mapping[Path, str]],
) -> Stage:
    inputs: dict[str, list[tuple[str, Stage]]] = {}
    for role, refs in entry.inputs.items():
        for label, ref in refs.items():
            if _enabled(ref, enabled):
                chosen = _choose(ref, entry, value, stages)
                inputs.setdefault(role, []).extend((label, stage) for stage in chosen)
        if len(inputs.get(role, [])) > 1 and not entry.kind.roles[role].many:
            raise UserError(
                f"chain.{entry.name}.inputs.{role} means several stages: {', '.join(s.name for _, s in inputs[role])}.",
                f"Name one of them, or set chain.{entry.name}.over.",
            )
    after = [stage for ref in entry.after if _enabled(ref, enabled) for stage in _choose(ref, entry, value, stages)]
    name = f"{entry.name}.{value}" if value else entry.name
    axis_value = axes[entry.over][value] if entry.over else {}
    stage = Stage(name, entry, value or None, axis_value, inputs, after)
    for draft in entry.kind.tasks(stage):
        _check_name(draft.name, f"task of {name}", forbidden="/")
        if any(draft.name == other.name for other in stage.tasks):
            raise UserError(
                f"{name} has two tasks called {draft.name}.", f"Look at the settings of chain.{entry.name}."
            )
        stage.tasks.append(_task(stage, draft, files_of(f"{name}/{draft.name}", draft)))
    if not stage.tasks:
        raise UserError(f"The stage {name} has nothing to do.", f"Look at the settings of chain.{entry.name}.")
    return stage


def _choose(ref: str, entry: Entry, value: str, stages: Mapping[str, list[Stage]]) -> list[Stage]:
    """The instances that a reference means: the same value where both run over one axis, else all."""
    if ref not in stages:
        base, _, wanted = ref.partition(".")
        found = [stage for stage in stages[base] if stage.axis == wanted]
        if not found:
            raise unknown("stage", ref, [stage.name for stage in stages[base]])
        return found
    instances = stages[ref]
    if instances[0].entry.over is not None and instances[0].entry.over == entry.over:
        return [stage for stage in instances if stage.axis == value]
    return instances


def _task(stage: Stage, draft: Draft, files: Mapping[Path, str]) -> Task:
    inputs = draft.inputs
    if inputs is None:
        inputs = {role: stage.input_tasks(role) for role in stage.inputs}
    lineage = digest(
        {
            "kind": stage.kind.name,
            "version": stage.kind.version,
            "axis": [stage.axis, canonical(stage.axis_value)],
            "identity": draft.identity,
            "inputs": {
                role: [[i.label, i.task.stage.axis, i.task.name, i.task.fingerprint] for i in items]
                for role, items in inputs.items()
                if items  # a kind may get another optional input without making a store worthless
            },
            "files": list(files.values()),
        }
    )
    fingerprint = digest({"lineage": lineage, "extent": draft.extent})
    kept = {role: list(items) for role, items in inputs.items()}
    return Task(stage, draft.name, fingerprint, lineage, draft.identity, kept, files)
