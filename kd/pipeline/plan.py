"""Plan a recipe's chain: stages and tasks with fingerprints, from the config alone, before anything has run.

The chain is a mapping of named stages; a stage `over` an axis (the language pairs) becomes one instance per value.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.pipeline.fingerprint import canonical, digest
from kd.pipeline.model import Role, Stage, StageSpec, Task, TaskSpec

RESERVED = ("configs", "logs", "plan.json", "slurm")  # other names in a run's folder


class Plan:
    """All stages of a recipe in topological order."""

    def __init__(self, stages: list[Stage], off: Iterable[str] = ()) -> None:
        self.stages = stages
        self._off = frozenset(off)  # entries of the chain that are switched off
        self._by_name = {stage.name: stage for stage in stages}

    def tasks(self) -> Iterator[Task]:
        """Yield every task, upstream before downstream."""
        for stage in self.stages:
            yield from stage.tasks

    def find(self, name: str) -> list[Stage]:
        """Return the stages called `name`: an instance (`teacher.en-de`) or all instances of an entry (`teacher`)."""
        found = [stage for stage in self.stages if name in (stage.name, stage.spec.name)]
        if not found and (entry := name.partition(".")[0]) in self._off:
            raise UserError(
                f"The stage {name} is switched off.",
                f"Set chain.{entry}.enabled=true. If it is true, its settings give the stage nothing to do, "
                "or its only_with names a stage that is off.",
            )
        if not found:
            raise unknown_name("stage", name, [*self._by_name, *{stage.spec.name for stage in self.stages}])
        return found

    def task(self, stage: str, task: str) -> Task:
        """Return a task by the names of the stage and the task."""
        if stage not in self._by_name:
            raise unknown_name("stage", stage, self._by_name)
        tasks = {item.name: item for item in self._by_name[stage].tasks}
        if task not in tasks:
            raise unknown_name(f"task of {stage}", task, tasks)
        return tasks[task]

    def asked_for(self, names: Sequence[str] = (), upto: str | None = None) -> list[Stage]:
        """Return the stages of these names, or `upto` and everything it depends on; without either, all stages.

        Raises UserError if both are given, or for an unknown name.
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
        """Return these stages and everything they depend on, in order."""
        wanted: set[Stage] = set()
        todo = list(stages)
        while todo:
            stage = todo.pop()
            if stage not in wanted:
                wanted.add(stage)
                todo += [other for inputs in stage.inputs.values() for _, other in inputs]
        return [stage for stage in self.stages if stage in wanted]


def build(
    entries: Mapping[str, StageSpec],
    axes: Mapping[str, Mapping[str, Any]],
    hash_file: Callable[[Path], str],
    frozen_files: Mapping[str, Mapping[str, str]] | None = None,
) -> Plan:
    """Plan a chain.

    Args:
        entries: The stages by name, as the recipe declares them.
        axes: Axis -> name of a value -> the value.
        hash_file: Returns the content hash of a raw file.
        frozen_files: Task -> raw file -> content hash, of an earlier plan; no file is read then.

    Raises:
        UserError: A name is invalid or unknown, an input is missing, or the chain has a cycle.
    """

    def files_of(name: str, task: TaskSpec) -> Mapping[Path, str]:
        if frozen_files is not None:
            return {Path(path): value for path, value in frozen_files.get(name, {}).items()}
        return {path: hash_file(path) for path in (task.files() if callable(task.files) else task.files)}

    for name in entries:
        _check_name(name, "stage", reserved=RESERVED, forbidden="./")
    for named in axes.values():
        for value in named:
            _check_name(value, "value of an axis", forbidden="/")
    enabled = _with_roles({name: spec for name, spec in entries.items() if spec.enabled}, entries)
    stages: dict[str, list[Stage]] = {}
    for name in _order(enabled, entries):
        spec = enabled[name]
        values: Mapping[str, Any] = {"": {}}
        if spec.over is not None:
            if spec.over not in axes:
                raise unknown_name(f"axis of chain.{name}.over", spec.over, axes)
            values = axes[spec.over]
            if not values:
                raise UserError(
                    f"The stage {name} runs over {spec.over}, which is empty.", f"Add an entry to {spec.over}."
                )
        stages[name] = [_instance(spec, value, axes, stages, enabled, files_of) for value in values]
    return Plan([stage for name in stages for stage in stages[name]], entries.keys() - enabled.keys())


def _check_name(name: str, what: str, *, forbidden: str, reserved: Iterable[str] = ()) -> None:
    """Raise UserError for a name that cannot be a folder name in the store and in the run."""
    wrong = next((char for char in name if char in forbidden or not char.isprintable()), None)
    if wrong is not None:
        raise UserError(f"The {what} {name!r} has {wrong!r} in its name.", "Choose another name.")
    if not name or name.startswith((".", "-")) or name in reserved:
        raise UserError(f"A {what} cannot be called {name!r}.", "Choose another name.")


def _with_roles(enabled: Mapping[str, StageSpec], entries: Mapping[str, StageSpec]) -> dict[str, StageSpec]:
    """Fill in the roles that the recipe does not declare but inputs imply (`Role.implies`).

    Raises:
        UserError: A role is declared for a stage whose output is not a system.
    """
    implied: dict[str, str] = {}
    for spec in enabled.values():
        for role, refs in spec.inputs.items():
            wanted = spec.kind.roles[role].implies if role in spec.kind.roles else None
            if wanted:
                where = f"chain.{spec.name}.inputs.{role}"
                implied |= {_base(ref, entries, where): wanted for ref in refs.values()}
    for name, spec in enabled.items():
        if spec.role and spec.kind.role is None:
            raise UserError(
                f"chain.{name}.role is {spec.role}, but the output of a {spec.kind.name} stage is not a system.",
                f"Remove chain.{name}.role.",
            )
    return {
        name: replace(spec, role=implied.get(name)) if spec.kind.role and not spec.role else spec
        for name, spec in enabled.items()
    }


def _order(enabled: Mapping[str, StageSpec], entries: Mapping[str, StageSpec]) -> list[str]:
    graph: dict[str, list[str]] = {}
    for name, spec in enabled.items():
        graph[name] = [ref for _, _, ref in _references(spec, enabled, entries)]
        after = [_base(ref, entries, f"chain.{name}.after") for ref in spec.after]
        graph[name] += [base for base in after if base in enabled]
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        ring = " -> ".join(reversed(error.args[1]))
        raise UserError(f"The chain has a cycle: {ring}.", "Remove one of these inputs.") from None


def _references(
    spec: StageSpec, enabled: Mapping[str, StageSpec], entries: Mapping[str, StageSpec]
) -> Iterator[tuple[str, str, str]]:
    """Yield role, label and entry name of each enabled input.

    Raises UserError for an unknown role, and for a single or required input that is missing or switched off.
    """
    for role, refs in spec.inputs.items():
        if role not in spec.kind.roles:
            raise unknown_name(f"input of the kind {spec.kind.name}", role, spec.kind.roles)
        wanted: Role = spec.kind.roles[role]
        if len(refs) > 1 and not wanted.many:
            raise UserError(f"chain.{spec.name}.inputs.{role} names several stages.", "It takes one.")
        for label, ref in refs.items():
            base = _base(ref, entries, f"chain.{spec.name}.inputs.{role}")
            if base in enabled:
                yield role, label, base
            elif not (wanted.many or wanted.optional):
                raise UserError(
                    f"The stage {spec.name} needs {base}, which is switched off.",
                    f"Set chain.{base}.enabled=true, or switch off {spec.name} as well.",
                )
    for role, wanted in spec.kind.roles.items():
        if wanted.optional:
            continue
        refs = spec.inputs.get(role, {})
        if not refs:
            raise UserError(f"The stage {spec.name} lacks its input {role}.", f"Set chain.{spec.name}.inputs.{role}.")
        if not any(_enabled(ref, enabled) for ref in refs.values()):
            raise UserError(
                f"The stage {spec.name} lacks its input {role}: {', '.join(refs.values())} is switched off.",
                f"Switch off {spec.name} as well, by chain.{spec.name}.enabled=false.",
            )


def _base(ref: str, entries: Mapping[str, StageSpec], where: str) -> str:
    if ref in entries:
        return ref
    base = ref.partition(".")[0]  # `teacher.en-de` names an instance of `teacher`
    if base in entries and entries[base].over is not None:
        return base
    raise unknown_name(f"stage (named by {where})", ref, entries)


def _enabled(ref: str, enabled: Mapping[str, StageSpec]) -> bool:
    return ref in enabled or ref.partition(".")[0] in enabled


def _instance(
    spec: StageSpec,
    value: str,
    axes: Mapping[str, Mapping[str, Any]],
    stages: Mapping[str, list[Stage]],
    enabled: Mapping[str, StageSpec],
    files_of: Callable[[str, TaskSpec], Mapping[Path, str]],
) -> Stage:
    inputs: dict[str, list[tuple[str, Stage]]] = {}
    for role, refs in spec.inputs.items():
        for label, ref in refs.items():
            if _enabled(ref, enabled):
                chosen = _choose(ref, spec, value, stages)
                inputs.setdefault(role, []).extend((label, stage) for stage in chosen)
        if len(inputs.get(role, [])) > 1 and not spec.kind.roles[role].many:
            raise UserError(
                f"chain.{spec.name}.inputs.{role} means several stages: {', '.join(s.name for _, s in inputs[role])}.",
                f"Name one of them, or set chain.{spec.name}.over.",
            )
    after = [stage for ref in spec.after if _enabled(ref, enabled) for stage in _choose(ref, spec, value, stages)]
    name = f"{spec.name}.{value}" if value else spec.name
    axis_value = axes[spec.over][value] if spec.over else {}
    stage = Stage(name, spec, value or None, axis_value, inputs, after)
    for task in spec.kind.tasks(stage):
        _check_name(task.name, f"task of {name}", forbidden="/")
        if any(task.name == other.name for other in stage.tasks):
            raise UserError(f"{name} has two tasks called {task.name}.", f"Check the settings of chain.{spec.name}.")
        stage.tasks.append(_task(stage, task, files_of(f"{name}/{task.name}", task)))
    if not stage.tasks:
        raise UserError(f"The stage {name} has no tasks.", f"Check the settings of chain.{spec.name}.")
    return stage


def _choose(ref: str, spec: StageSpec, value: str, stages: Mapping[str, list[Stage]]) -> list[Stage]:
    """Return the instances that a reference selects: that of the same value if both run over one axis, else all."""
    if ref not in stages:
        base, _, wanted = ref.partition(".")
        found = [stage for stage in stages[base] if stage.axis == wanted]
        if not found:
            raise unknown_name("stage", ref, [stage.name for stage in stages[base]])
        return found
    instances = stages[ref]
    if instances[0].spec.over is not None and instances[0].spec.over == spec.over:
        return [stage for stage in instances if stage.axis == value]
    return instances


def _task(stage: Stage, spec: TaskSpec, files: Mapping[Path, str]) -> Task:
    inputs = spec.inputs
    if inputs is None:
        inputs = {role: stage.input_tasks(role) for role in stage.inputs}
    lineage = digest(
        {
            "kind": stage.kind.name,
            "version": stage.kind.version,
            "axis": [stage.axis, canonical(stage.axis_value)],
            "identity": spec.identity,
            "inputs": {
                role: [[i.label, i.task.stage.axis, i.task.name, i.task.fingerprint] for i in items]
                for role, items in inputs.items()
                if items  # so that a new optional input of a kind changes no fingerprint
            },
            "files": list(files.values()),
        }
    )
    fingerprint = digest({"lineage": lineage, "extent": spec.extent})
    kept = {role: list(items) for role, items in inputs.items()}
    return Task(stage, spec.name, fingerprint, lineage, spec.identity, kept, files, spec.subject)
