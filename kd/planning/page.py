"""Show a forecast in the terminal, as a Markdown page for an application for computing time, or as JSON.

The sources of all estimates are numbered and listed; an unknown estimate has a hint on how to find it out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text as Styled

from kd import __version__
from kd.base.estimate import UNKNOWN, Estimate, total
from kd.pipeline.forecast import Work
from kd.planning import application
from kd.planning.forecast import UNKNOWN_PUE, Forecast, StageForecast, sum_known
from kd.planning.values import count, hours, money, number, shown, size, three_digits, time, tokens
from kd.recipe.schema import DecodeConfig
from kd.report.table import Table

WORDS = ("stage", "tasks", "work of a task", "sources")  # columns without numbers
COLUMNS = (
    "stage",
    "tasks",
    "work of a task",
    "time of a task",
    "GPU hours",
    "core hours",
    "kept",
    "temporary",
    "sources",
)


class Sources:
    """Number the sources of estimates in the order in which they are cited."""

    def __init__(self) -> None:
        self.cited: list[str] = []

    def cite(self, *estimates: Estimate, only: Container[str] | None = None) -> str:
        """Return the numbers of these estimates' sources, or only of those in `only`."""
        found = []
        for part in dict.fromkeys(part for estimate in estimates for part in estimate.source.split("; ") if part):
            if only is not None and part not in only:
                continue
            if part not in self.cited:
                self.cited.append(part)
            found.append(str(self.cited.index(part) + 1))
        return " ".join(f"[{each}]" for each in sorted(found, key=int))


def rows(forecast: Forecast, sources: Sources) -> list[tuple[str, ...]]:
    """Return a row for each stage, keyed by COLUMNS."""
    return [_row(stage, sources) for stage in forecast.stages]


def _row(stage: StageForecast, sources: Sources) -> tuple[str, ...]:
    missing = len(stage.tasks)
    tasks = f"{missing}, {stage.done} done" if missing and stage.done else str(missing) if missing else "done"
    if not missing:
        return (stage.stage.name, tasks, "", "", "", "", size(stage.kept_already), "", "")
    amounts = _amounts(stage.work)
    return (
        stage.stage.name,
        tasks,
        ", ".join(count(estimate.value, unit) for unit, estimate in amounts.items()),
        time(stage.seconds.value),
        hours(stage.gpu_hours.value),
        hours(stage.core_hours.value),
        size(stage.kept.value),
        size(stage.temporary),
        sources.cite(*amounts.values(), stage.seconds, stage.kept),
    )


def _amounts(work: Iterable[Work]) -> dict[str, Estimate]:
    """Add up the amounts of work in equal units, such as the sentences of all systems of a speed test."""
    found: dict[str, list[Estimate]] = {}
    for part in work:
        found.setdefault(part.unit, []).append(part.amount)
    return {unit: total(amounts) for unit, amounts in found.items()}


def totals(forecast: Forecast) -> list[tuple[str, str, Estimate]]:
    """Return the totals: name, value in words, estimate."""
    found: list[tuple[str, str, Estimate]] = [("jobs", *_arrays(forecast))]
    if forecast.machine.gpus_per_node:
        most = forecast.peak_gpus
        found.append(("GPUs at once", number(most), Estimate(most, "")))
        found.append(("GPU hours", shown(forecast.gpu_hours, hours), forecast.gpu_hours))
    if forecast.cluster:
        found.append(("nodes at once", number(forecast.peak_nodes), Estimate(forecast.peak_nodes, "")))
        found.append(("node hours", shown(forecast.node_hours, hours), forecast.node_hours))
        partitions = forecast.node_hours_by_partition
        for name, estimate in partitions.items() if len(partitions) > 1 else []:
            found.append((f"of them in {name}", shown(estimate, hours), estimate))
    found.append(("CPU core hours", shown(forecast.core_hours, hours), forecast.core_hours))
    if forecast.cpu_seconds is not None and not forecast.unknown:
        used = forecast.cpu_seconds / 3600
        found.append(("of them at work", hours(used), Estimate(used, "CPU seconds as measured")))
    found += _asked(forecast)
    found.append(("wall time", time(forecast.wall.value), forecast.wall))
    found.append(("disk at the fullest", size(forecast.peak.value), forecast.peak))
    found.append(("disk kept", shown(forecast.kept, size), forecast.kept))
    found.append(("data in", size(forecast.data_in.value), forecast.data_in))
    found.append(("data out", size(forecast.data_out.value), forecast.data_out))
    found.append(("energy", _kwh(forecast), forecast.kwh))
    carbon = UNKNOWN if forecast.co2.value is None else f"{forecast.co2.value:,.1f} kg CO2e"
    found.append(("emissions", carbon, forecast.co2))
    return found


def _asked(forecast: Forecast) -> list[tuple[str, str, Estimate]]:
    """Return the tokens that language models behind servers read and write, and their price."""
    asked = [stage.asked for stage in forecast.stages if stage.asked]
    if not asked:
        return []
    read, written = total(each.prompt for each in asked), total(each.completion for each in asked)
    found = [("tokens read", shown(read, tokens), read), ("tokens written", shown(written, tokens), written)]
    for currency in dict.fromkeys(each.currency for each in asked):
        price = total(each.price for each in asked if each.currency == currency)
        if price.value != 0:
            found.append(("price of tokens", f"{shown(price, money)} {currency}", price))
    return found


def _arrays(forecast: Forecast) -> tuple[str, Estimate]:
    """Describe the numbers of job arrays, their tasks, their restarts, and tasks without a job."""
    missing = [stage for stage in forecast.stages if stage.tasks and stage.request.nodes]
    tasks = sum(len(stage.tasks) for stage in missing)
    if not forecast.cluster:
        return count(tasks, "tasks"), Estimate(float(tasks))
    again = (sum_known(stage.runs_of_jobs for stage in missing) or tasks) - tasks
    words = f"{count(len(missing), 'job arrays')} with {count(tasks, 'tasks')}"
    words += f", whose jobs are restarted {count(again, 'times')} after a time limit" if again else ""
    here = sum(len(stage.tasks) for stage in forecast.stages if not stage.request.nodes)
    words += f"; {count(here, 'tasks')} more without a job, on the login node" if here else ""
    return words, Estimate(float(tasks))


def _kwh(forecast: Forecast) -> str:
    if forecast.kwh.value is None:
        return UNKNOWN
    pue = forecast.machine.pue
    overhead = f"PUE {pue:g}" if pue else "PUE unknown: the computers alone"
    return f"{three_digits(forecast.kwh.value)} kWh ({overhead})"


_UNMEASURED = re.compile(
    r"(the size of the output of (?P<output>.+)|(?P<work>.+)) was not measured( on (?P<machine>.+))?"
)


def open_questions(forecast: Forecast) -> list[str]:
    """Return a hint for each unknown estimate."""
    estimates = [stage.seconds for stage in forecast.stages] + [stage.kept for stage in forecast.stages]
    estimates += [forecast.kwh, forecast.co2, forecast.data_in, *forecast.text.values()]
    hints = [part for estimate in estimates if estimate.value is None for part in estimate.source.split("; ")]
    hints += [UNKNOWN_PUE] if forecast.machine.pue is None else []
    wanted = ("set assume.", "was not measured", "has no forecast", "is not known", "not here")
    return list(dict.fromkeys(part for part in hints if any(each in part for each in wanted)))


def show(forecast: Forecast, console: Console) -> None:
    """Print warnings, the table of stages, the totals, the longest chain, and the sources of the numbers."""
    if not console.is_terminal:
        console.width = 240
    sources = Sources()
    if forecast.changes:
        console.print(Styled(f"Changed: {', '.join(forecast.changes)}"), soft_wrap=True)
    for line in forecast.warnings:
        console.print(Styled(f"Warning: {line}", style="yellow"), soft_wrap=True)
    where = f"{forecast.recipe} on {forecast.machine.name}: nothing was submitted"
    console.print(Table.of_rows(COLUMNS, rows(forecast, sources), title=where, text=WORDS).terminal())
    console.print()
    questions = open_questions(forecast)
    for name, words, estimate in totals(forecast):
        cited = sources.cite(estimate, only=questions) if estimate.value is None else ""
        console.print(Styled(f"{name:>20}: {words} {cited}".rstrip()))
    if forecast.critical:
        chain = " -> ".join(task.full_name for task in forecast.critical)
        console.print(Styled(f"{'the longest chain':>20}: {chain}"), soft_wrap=True)
    console.print()
    known, unknown = _origins(forecast, sources)
    for line in known:
        console.print(Styled(line), soft_wrap=True)
    for line in unknown:
        console.print(Styled(f"Unknown: {line}", style="yellow"), soft_wrap=True)


def _origins(forecast: Forecast, sources: Sources) -> tuple[list[str], list[str]]:
    """Return the sources of the known estimates and the hints for the unknown ones, each once."""
    questions = open_questions(forecast)
    numbered = {source: f"[{number}] {source}" for number, source in enumerate(sources.cited, 1)}
    known = (
        [] if forecast.measured else ["Nothing was measured on this machine: times and sizes are assumed or computed."]
    )
    known += [*forecast.notes, *(line for source, line in numbered.items() if source not in questions)]
    assumed = (forecast.assumptions.typed(key) for key in forecast.assumptions.values)
    rest = [each for each in assumed if not any(each in source for source in sources.cited)]
    known += [f"Also assumed: {', '.join(rest)}."] if rest else []
    return known, _together([(question, numbered.get(question, question)) for question in questions])


def _together(questions: Sequence[tuple[str, str]]) -> list[str]:
    """Return the hints for unknown estimates. Those that a measurement would answer come first, joined in one line.

    Args:
        questions: Each hint, without and with its number.
    """
    missing: dict[str, list[str]] = {}
    rest = []
    for question, numbered in questions:
        if found := _UNMEASURED.fullmatch(question):
            number = numbered.removesuffix(question)
            what = "sizes of outputs" if found["output"] else f"times on {found['machine']}"
            missing.setdefault(what, []).append(f"{number}{found['output'] or found['work']}")
        else:
            rest.append(numbered)
    lines = [f"{what} were not measured: {', '.join(names)}." for what, names in missing.items()]
    if lines:
        lines[0] += " To measure these, add --probe on that machine; or assume them, for example assume.seconds=600."
    return lines + rest


# --- the page --------------------------------------------------------------------------------------------------------


def markdown(forecast: Forecast) -> str:
    """Return a page that can be pasted into an application for computing time."""
    machine = forecast.machine
    sources = Sources()
    lines = [f"# Computing resources: {forecast.recipe} on {machine.name}", ""]
    lines += [_summary(forecast), "", "## Resources requested", "", "| | |", "| --- | ---: |"]
    lines += [f"| {name} | {words} |" for name, words, _ in totals(forecast)]
    lines += ["", " ".join([*_nodes(forecast), "Waiting times in queues are not included."])]
    lines += ["", _longest(forecast)] if forecast.critical else []
    header = ("stage", "tasks", "nodes", "GPUs", "cores", "time of a task", "limit")
    lines += ["", "## Jobs, by stage", "", Table.of_rows(header, _jobs(forecast)).markdown().strip()]
    lines += ["", "Nodes are per task; GPUs and cores are per node. "
              "A task that is longer than its limit resumes from its last checkpoint in the next job."]  # fmt: skip
    lines += [
        "",
        "## Work and storage, by stage",
        "",
        Table.of_rows(COLUMNS, rows(forecast, sources), text=WORDS).markdown().strip(),
    ]
    lines += ["", "Kept: until the end of the project. Temporary: while a task runs."]
    lines += ["", "## Software", "", _software(forecast)]
    lines += application.sections(forecast)
    known, unknown = _origins(forecast, sources)
    lines += ["", "## Sources of the figures", "", *(f"- {line}" for line in known)]
    if unknown:
        lines += ["", "## Unknown", "", *(f"- {line}" for line in unknown)]
    return "\n".join(lines) + "\n"


def _nodes(forecast: Forecast) -> Iterable[str]:
    """Describe the machine's nodes, and the requests of the jobs in each partition."""
    machine = forecast.machine
    parts = [f"{machine.gpus_per_node} GPUs" + (f" ({machine.gpu})" if machine.gpu else "")]
    parts = parts if machine.gpus_per_node else []
    parts += [f"{machine.cores_per_node} cores"] if machine.cores_per_node else []
    parts += [f"{machine.memory_per_node:g} GB of memory"] if machine.memory_per_node else []
    asked: dict[str, tuple[int, int]] = {}
    for stage in forecast.stages:
        if stage.tasks and stage.request.nodes and stage.request.partition:
            gpus, cores = asked.get(stage.request.partition, (0, 0))
            asked[stage.request.partition] = max(gpus, stage.request.gpus), max(cores, stage.request.cores)
    if parts:
        which = "A GPU node" if machine.gpus_per_node and len(asked) > 1 else "A node"
        yield f"{which} of {machine.name} has {', '.join(parts)}."
    if len(asked) > 1:
        requests = (
            f"in {name} " + (f"{count(gpus, 'GPUs')} and " if gpus else "") + count(cores, "cores")
            for name, (gpus, cores) in asked.items()
        )
        yield f"The largest requests per node are: {'; '.join(requests)}."


def _longest(forecast: Forecast) -> str:
    """Describe the critical path, and how to shorten it without more GPU hours."""
    stages = {stage.stage: stage for stage in forecast.stages}
    spent: dict[str, float] = {}
    for task in forecast.critical:
        span = forecast.spans[task]
        spent[task.stage.name] = spent.get(task.stage.name, 0.0) + span.end - span.begin
    most = sorted(spent.items(), key=lambda item: -item[1])[:3]
    text = f"Most of the wall time goes to {', '.join(f'{name} ({time(seconds)})' for name, seconds in most)}."
    decoding = [task.stage for task in forecast.critical if isinstance(task.stage.config, DecodeConfig)]
    if decoding:
        workers = max(len(stages[stage].tasks) for stage in decoding)
        text += f" A larger decode.workers ({workers} here) shortens it at the same GPU hours."
    return text


def _summary(forecast: Forecast) -> str:
    pairs = "; ".join(f"{name}: {number(estimate.value)} sentence pairs" for name, estimate in forecast.text.items())
    return (
        "Teachers are trained, their ensemble translates the training corpus, the hypotheses closest to the human "
        f"translations are selected, and a small, fast student is trained on them ({pairs})."
    )


def _jobs(forecast: Forecast) -> Iterable[tuple[str, ...]]:
    for stage in forecast.stages:
        if stage.tasks:
            request = stage.request
            limit = "none" if request.hours is None else f"{request.hours:g} h"
            sizes = (str(request.nodes), str(request.gpus), str(request.cores))
            if not request.nodes:
                sizes = ("login node", "", "")
            yield stage.stage.name, str(len(stage.tasks)), *sizes, time(stage.seconds.value), limit


def _software(forecast: Forecast) -> str:
    container = forecast.machine.container
    how = f"inside the Apptainer/Singularity image {container}" if container else "in a Python environment"
    return (
        f"kd {__version__} {how}: Python 3.11 or newer, PyTorch, fairseq 0.12.2, CTranslate2, sentencepiece, "
        "sacreBLEU, COMET. Trainings on several GPUs start torchrun once per node. Compute nodes need no network."
    )


def to_json(forecast: Forecast) -> dict[str, Any]:
    """Return everything as plain values: seconds, bytes, hours."""

    def plain(estimate: Estimate) -> dict[str, Any]:
        value = estimate.value
        return {"value": None if value is None or math.isnan(value) else value, "source": estimate.source}

    return {
        "recipe": forecast.recipe,
        "machine": forecast.machine.name,
        "pairs": {name: plain(estimate) for name, estimate in forecast.text.items()},
        "totals": {
            name.replace(" ", "_"): {**plain(estimate), "shown": words} for name, words, estimate in totals(forecast)
        },
        "critical_path": [task.full_name for task in forecast.critical],
        "stages": [
            {
                "stage": stage.stage.name,
                "kind": stage.stage.kind.name,
                "done": stage.done,
                "missing": [item.task.name for item in stage.tasks],
                "work": [{"what": part.name, "unit": part.unit, "amount": plain(part.amount)} for part in stage.work],
                "nodes": stage.request.nodes,
                "gpus": stage.request.gpus,
                "cores": stage.request.cores,
                "hours_limit": stage.request.hours,
                "seconds_of_a_task": plain(stage.seconds),
                "cpu_seconds": sum_known(item.cpu_seconds for item in stage.tasks),
                "gpu_hours": plain(stage.gpu_hours),
                "core_hours": plain(stage.core_hours),
                "bytes_kept": plain(stage.kept),
            }
            for stage in forecast.stages
        ],
        "notes": forecast.notes,
        "warnings": forecast.warnings,
        "assumed": dict(forecast.assumptions.values),
        "measured": forecast.measured,
        "unknown": open_questions(forecast),
    }
