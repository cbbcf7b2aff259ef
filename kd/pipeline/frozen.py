"""Freeze the tasks of a plan as plain values, and restore a task from them without planning the recipe.

A frozen task holds its resolved inputs, so that editing a recipe changes nothing that is queued.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.text import unknown_name
from kd.pipeline.fingerprint import canonical, restore
from kd.pipeline.model import Input, Job, Kind, Stage, StageSpec, Summary, Task
from kd.pipeline.plan import Plan

PLAN_AGAIN = "Plan it again by `kd run`."


def frozen_stages(plan: Plan) -> dict[str, Any]:
    """Return the stages of a plan with their tasks, as plain JSON values."""
    return {stage.name: _frozen_stage(stage) for stage in plan.stages}


def thawed_task(stages: Mapping[str, Any], stage: str, name: str, load_kind: Callable[[str], Kind[Any]]) -> Task:
    """Restore a task from the result of `frozen_stages`, with its inputs, but without the inputs' own inputs.

    Args:
        stages: The frozen stages.
        stage: The name of the task's stage.
        name: The name of the task.
        load_kind: Returns the kind with a given name.

    Raises:
        UserError: There is no such stage or task, or this version of kd would define the task differently.
    """
    if stage not in stages:
        raise unknown_name("stage", stage, stages)
    tasks = stages[stage]["tasks"]
    if name not in tasks:
        raise unknown_name(f"task of {stage}", name, tasks)
    try:
        kind = load_kind(stages[stage]["kind"])
        config = restore(kind.config, stages[stage]["config"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"kd has changed since {stage} was planned.", PLAN_AGAIN) from None
    if kind.version != stages[stage]["version"]:
        raise UserError(f"kd has changed since {stage} was planned.", PLAN_AGAIN)
    inputs = {
        role: [Input(item["label"], _input_task(stages, item["stage"], item["task"])) for item in items]
        for role, items in tasks[name]["inputs"].items()
    }
    return _task(_stage(stages, stage, kind, config), name, tasks[name], inputs)


def _frozen_stage(stage: Stage) -> dict[str, Any]:
    return {
        "spec": stage.spec.name,
        "kind": stage.kind.name,
        "version": stage.kind.version,
        "config": canonical(stage.config),
        "axis": stage.axis,
        "axis_value": canonical(stage.axis_value),
        "tasks": {task.name: _frozen_task(task) for task in stage.tasks},
    }


def _frozen_task(task: Task) -> dict[str, Any]:
    return {
        "fingerprint": task.fingerprint,
        "lineage": task.lineage,
        "identity": canonical(task.identity),
        "subject": canonical(task.subject),
        "files": {str(path): value for path, value in task.files.items()},
        "inputs": {
            role: [{"label": item.label, "stage": item.task.stage.name, "task": item.task.name} for item in items]
            for role, items in task.inputs.items()
        },
    }


class _NotLoaded(Kind[Any]):
    """A placeholder for the kind of an input's stage: inputs are only read, so the kind need not be imported."""

    name, version, config = "", 0, dict

    def run(self, job: Job[Any]) -> None:
        raise NotImplementedError

    def check(self, job: Job[Any]) -> Summary:
        raise NotImplementedError


def _input_task(stages: Mapping[str, Any], stage: str, name: str) -> Task:
    """Restore a task that another task reads from; its config stays plain."""
    return _task(_stage(stages, stage, _NotLoaded(), stages[stage]["config"]), name, stages[stage]["tasks"][name], {})


def _stage(stages: Mapping[str, Any], name: str, kind: Kind[Any], config: Any) -> Stage:
    plain = stages[name]
    return Stage(name, StageSpec(plain["spec"], kind, config, {}), plain["axis"], plain["axis_value"], {})


def _task(stage: Stage, name: str, plain: Mapping[str, Any], inputs: Mapping[str, list[Input]]) -> Task:
    files = {Path(path): value for path, value in plain["files"].items()}
    fingerprint, lineage = plain["fingerprint"], plain["lineage"]
    return Task(stage, name, fingerprint, lineage, plain["identity"], inputs, files, plain["subject"])
