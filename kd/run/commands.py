"""Implement `kd run`, `kd cancel` and `kd report`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from rich.console import Console
from rich.text import Text

from kd import tracking
from kd.base.errors import UserError
from kd.base.faults import disk_fault
from kd.launch.container import Commands
from kd.launch.launcher import Failure, Interrupted, Launcher, exit_status, of_several
from kd.launch.local import LocalLauncher
from kd.launch.servers import check_servers
from kd.launch.slurm import queue
from kd.launch.slurm.launcher import SlurmLauncher
from kd.launch.slurm.script import Settings
from kd.pipeline.model import Stage, Task
from kd.pipeline.plan import Plan
from kd.pipeline.run import Run, ensure_writable
from kd.pipeline.store import Store
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.recipe.schema import MachineConfig

LAUNCHERS = ("local", "slurm")
Warnings = Callable[[Plan, DictConfig, Store], Iterable[str]]


def _no_warnings(*_: object) -> Iterable[str]:
    return ()


def run(request: Request, warnings: Warnings = _no_warnings) -> int:
    """Run the missing tasks of a recipe; return the exit status. warnings: what to print before the first task."""
    config = compose.compose(request)
    store, folder = Store(Path(config.store.dir)), Run(Path(config.run.dir))
    tracking.wanted(config.tracking.trackers)
    ensure_writable(store.root, "store.dir")
    ensure_writable(folder.folder, "run.dir")
    plan = compose.plan(config)
    for planned in plan.stages:
        planned.kind.suits(planned.config, config.machine.device)
    if config.launcher.kind != "local":
        check_servers(plan.stages, cluster_machine(config))
    tasks = _chosen(plan, request, store, folder)
    raw = [path for item in tasks for path in item.files]
    commands = Commands(compose.resolve(config), folder.folder, store, raw)
    try:
        frozen = folder.freeze(compose.resolve(config), plan)
        folder.show(plan, store, frozen, request.command)
    except OSError as error:
        raise disk_fault(error, folder.folder) or error from None
    console = Console(stderr=True, highlight=False)
    _warn(config, console)
    if request.variant:
        console.print(f"{config.recipe} with {request.variant} in {folder.folder}", soft_wrap=True)
    todo = [task for task in tasks if not store.paths(task).is_published()]
    if not todo:
        console.print(f"Nothing to do: all {len(tasks)} tasks of {config.recipe} are done.")
        return _show_results(tasks, store, folder)
    console.print(f"{config.recipe}: {len(tasks) - len(todo)} of {len(tasks)} tasks are done, {len(todo)} to do.")
    for line in warnings(plan, config, store):
        console.print(Text(f"Warning: {line}", style="yellow"), soft_wrap=True)
    tracking.prepare(config.tracking.trackers, folder.folder, config.recipe)
    try:
        failures = _launcher(config, folder, store, frozen, commands, wait=request.wait).launch(todo)
    except Interrupted:
        raise KeyboardInterrupt from None
    _tell(failures, console)
    folder.drop_outdated(plan, store)
    return exit_status(failures) if failures else _show_results(tasks, store, folder)


def run_all(requests: Sequence[Request]) -> int:
    """Validate all variants of a sweep, then run them one after the other; return the exit status."""
    for request in requests:
        compose.plan(compose.compose(request))
    return of_several([run(request) for request in requests])


def cancel(request: Request) -> int:
    """Cancel a run's jobs in a scheduler's queue, and no others; return the exit status."""
    folder = Run(Path(compose.compose(request).run.dir))
    cancelled = queue.cancel(folder, lambda text: print(text, file=sys.stderr))
    if not cancelled:
        print(f"No task of {folder.folder} is queued. (Tasks on this computer are stopped with Ctrl-C in `kd run`.)")
        return 0
    tasks = sum(len(names) for names in cancelled.values())
    print(f"Cancelled {tasks} tasks in {len(cancelled)} jobs ({', '.join(cancelled)}); their work is kept.")
    return 0


def report(request: Request) -> int:
    """Print a run's results and the path of its page, which is made if it is missing; return the exit status.

    The page is the output of a stage, so an outdated page is never shown.
    """
    config = compose.compose(request)
    store, folder = Store(Path(config.store.dir)), Run(Path(config.run.dir))
    plan = compose.plan(config)
    if not folder.folder.is_dir() and not any(store.paths(item).is_published() for item in plan.tasks()):
        raise UserError(
            f"{config.recipe} has not been run in {folder.folder}.",
            "Change to the folder in which it was run, or add its run.dir= and store.dir=.",
        )
    pages = [stage for stage in plan.stages if stage.kind.reports]
    if not pages:
        raise UserError("This chain has no stage of kind report.", "Add one to the chain, as conf/chain/ does.")
    if any(not store.paths(item).is_published() for stage in pages for item in stage.tasks):
        # On this computer, not on a cluster: it takes seconds, and the user is waiting.
        others = [override for override in request.overrides if not override.startswith("launcher")]
        overrides = (*others, "launcher=local")
        return run(replace(request, stages=tuple(stage.name for stage in pages), overrides=overrides))
    return _show_results(list(plan.tasks()), store, folder)


# --- choosing --------------------------------------------------------------------------------------------------------


def _chosen(plan: Plan, request: Request, store: Store, folder: Run) -> list[Task]:
    stages = plan.asked_for(request.stages, request.upto)
    if not request.stages:
        return [item for stage in stages for item in stage.tasks]
    return _with_inputs_there(stages, store, folder.shown(), request.recipe)


def _with_inputs_there(stages: list[Stage], store: Store, before: dict[str, str], recipe: str) -> list[Task]:
    tasks = [item for stage in stages for item in stage.tasks]
    for item in tasks:
        for upstream in item.upstream():
            if upstream in tasks or store.paths(upstream).is_published() or store.paths(item).is_published():
                continue
            earlier = before.get(upstream.full_name)
            stale = earlier is not None and (Path(earlier) / "manifest.json").is_file()
            upto = "" if item.stage.kind.reports else f" upto={item.stage.name}"  # a report covers the whole run
            raise UserError(
                f"{item.full_name} needs {upstream.full_name}, which is {'stale' if stale else 'missing'}.",
                f"`kd run recipe={recipe}{upto}` makes it, with the same settings.",
            )
    return tasks


def _launcher(
    config: DictConfig, folder: Run, store: Store, frozen: str, commands: Commands, *, wait: bool
) -> Launcher:
    here = LocalLauncher(
        folder,
        store,
        frozen,
        processes=config.launcher.processes,
        threads=config.launcher.threads,
        gpus=config.machine.gpus_per_node if config.machine.device != "cpu" else 0,
        refresh=config.tracking.refresh,
        resources=config.machine.resources,
        command=commands.here,
    )
    if config.launcher.kind == "local":
        return here
    machine = cluster_machine(config)
    settings = Settings(config.recipe, frozen, machine, config.launcher.requeues, folder, commands)
    return SlurmLauncher(settings, store, here.launch, wait=wait)


def cluster_machine(config: DictConfig) -> MachineConfig:
    """Return the machine that jobs are submitted on; raise UserError if a fact of it is missing."""
    try:
        machine = OmegaConf.to_object(config.machine)
    except MissingMandatoryValue as error:
        key = f"machine.{error.key}" if error.key else "a key of machine"
        raise UserError(
            f"{key} is not set, and {config.machine.name} needs it.",
            f"Add {key}=VALUE; the machine's file in conf/machine/ explains where to find it.",
        ) from None
    assert isinstance(machine, MachineConfig)
    return machine


# --- showing ---------------------------------------------------------------------------------------------------------


def _warn(config: DictConfig, console: Console) -> None:
    """Warn about training corpora that are named like test sets, and about a leakage guard that is off."""
    from kd.corpora.known_testsets import known_test_sets, training_names

    sources = OmegaConf.to_container(config.corpus.sources, resolve=True, enum_to_str=True)
    assert isinstance(sources, dict)
    for name, what in known_test_sets(training_names(sources)).items():
        line = f"Warning: the training corpus {name} is, by its name, {what}. "
        line += f"Set corpus.sources.{name}.use=test, or leave it out."
        console.print(Text(line, style="yellow"), soft_wrap=True)
    if str(config.corpus.leakage).lower() in ("off", "false"):
        line = "Warning: LEAKAGE GUARD OFF: train is not compared with the dev and test sets."
        console.print(Text(line, style="bold red"), soft_wrap=True)


def _tell(failures: Iterable[Failure], console: Console) -> None:
    blocked = Counter[str]()
    for failure in failures:
        if failure.exit_status == 0:
            blocked[failure.task.stage.name] += 1
            continue
        console.print(Text(f"{failure.task.full_name}: {failure.message}", style="bold"), soft_wrap=True)
        console.print(Text(f"    log: {failure.log}"), soft_wrap=True)
    if blocked:
        told = ", ".join(f"{stage} ({tasks} task{'s' if tasks > 1 else ''})" for stage, tasks in blocked.items())
        console.print(Text(f"Not started, because they need these: {told}"), soft_wrap=True)


def _show_results(tasks: Iterable[Task], store: Store, folder: Run) -> int:
    console = Console(highlight=False)
    for item in tasks:
        if not item.stage.kind.reports or not store.paths(item).is_published():
            continue
        final, link = store.paths(item).final, folder.link_path(item)
        shown_at = link if link.resolve() == final.resolve() else final
        for shown in item.stage.kind.results(final, shown_at):
            console.print(Text(shown) if isinstance(shown, str) else shown, soft_wrap=isinstance(shown, str))
    return 0
