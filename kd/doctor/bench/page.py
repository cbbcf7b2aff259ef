"""Format the results of `kd doctor bench=true` as a Markdown page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kd.base.text import amount, duration, size
from kd.doctor.bench.results import Measurement, Results, State
from kd.report.table import Cell, Column, Document, Table

_MINIATURE = "A miniature on a CPU, with tiny models: the measurements work, and their numbers say nothing about speed."
_NOTES = (
    "MFU: model FLOPs utilisation, the FLOPs that the model needs (forward and backward pass, without padding) by the "
    "published peak of the device in this precision; empty if the peak is not in kd's table.",
    "Forecast and measured memory: the peak of one process in tensors, without the CUDA context. Energy: of the GPUs.",
    "Models have random weights and text is generated: the rates compare devices and versions of kd.",
)


def page(results: Results) -> str:
    """Return the page."""
    device = f"{results.count} × {results.name}" if results.count else results.name
    paragraphs = [
        f"{device} ({results.device}), {results.host}, {results.date[:10]}; kd {results.kd}, torch {results.torch}; "
        f"{duration(results.seconds)} in all."
    ]
    if results.miniature:
        paragraphs.append(_MINIATURE)
    tables = [training_table(results), other_table(results), missing_table(results)]
    return Document(f"kd on {results.name}", tables, paragraphs, notes=_NOTES).markdown()


def training_table(results: Results) -> Table:
    """Make the table of trainings: a row for each model and precision, and for all GPUs together."""
    measured = [each.values for each in results.measurements if "tokens_per_second" in each.values]

    def column(heading: str, key: str, shown: Callable[[Any], str], *, numeric: bool = True) -> Column:
        cells = [Cell() if each.get(key) is None else Cell(shown(each[key])) for each in measured]
        return Column(heading, cells, numeric=numeric)

    columns = [
        column("Training", "model", str, numeric=False),
        column("Precision", "precision", str, numeric=False),
        column("Processes", "workers", str),
        column("Micro-batch", "micro_batch", "{:,}".format),
        column("Target tokens/s", "tokens_per_second", "{:,.0f}".format),
        column("MFU", "mfu", "{:.1%}".format),
        column("Memory, forecast", "forecast_memory", size),
        column("Memory, measured", "measured_memory", size),
        Column("Measured / forecast", [Cell(_memory_ratio(each)) for each in measured]),
        column("W", "watts", "{:,.0f}".format),
        column("J per 1,000 tokens", "joules_per_1000_tokens", amount),
    ]
    return Table(columns, "Trainings")


def _memory_ratio(values: dict[str, Any]) -> str:
    used = values["measured_memory"]
    return "" if used is None else f"{used / values['forecast_memory']:.2f}"


def other_table(results: Results) -> Table:
    """Make the table of all other measurements: name and result in words."""
    words: dict[str, Callable[[dict[str, Any]], str]] = {
        "resume": _resume,
        "out of memory": _memory,
        "ensemble": _ensemble,
        "ctranslate2": _ctranslate2,
        "communication": _communication,
        "scaling": lambda values: _scaling(values, results),
    }
    rows = [
        (each.name, words[each.name](each.values))
        for each in _in(results, State.measured)
        if each.name in words and each.values
    ]
    return Table.of_rows(("Measurement", "Result"), rows, title="Other measurements", text=("Measurement", "Result"))


def _resume(values: dict[str, Any]) -> str:
    return (
        f"stopped by SIGUSR1 at update {values['stopped_at']} within {values['seconds_to_stop']:.1f} s, resumed there; "
        f"first new update after {values['seconds_to_resume']:.1f} s"
    )


def _memory(values: dict[str, Any]) -> str:
    tried = ", ".join(f"{each:,}" for each in values["tried"])
    return f"a step ran out of memory {values['out_of_memory']} times, then succeeded; tokens: {tried}"


def _ensemble(values: dict[str, Any]) -> str:
    joules = values["joules_per_sentence"]
    used = "" if joules is None else f", {amount(joules)} J per sentence"
    return (
        f"{values['members']} members, beam {values['beam']}, {values['precision']}: {amount(values['ours'])} "
        f"sentences/s, {values['ratio']:.2f} times fairseq's own search ({amount(values['stock'])}); "
        f"{values['equal']} of {values['sentences']} translations are equal{used}"
    )


def _ctranslate2(values: dict[str, Any]) -> str:
    rates = ", ".join(f"{kind} {amount(rate)}" for kind, rate in values["rates"].items())
    return f"student, beam {values['beam']}, sentences/s: {rates}"


def _communication(values: dict[str, Any]) -> str:
    return f"all-reduce over {values['workers']} processes: {values['gigabytes_per_second']:.2f} GB/s"


def _scaling(values: dict[str, Any], results: Results) -> str:
    rate, workers = values["tokens_per_second"], values["workers"]
    alone = next(
        (
            each.values["tokens_per_second"]
            for each in results.measurements
            if each.values.get("workers") == 1
            and all(each.values[key] == values[key] for key in ("model", "precision"))
        ),
        None,
    )
    if alone is None:
        return f"{rate:,.0f} tokens/s on {workers} devices"
    return f"{rate / alone:.2f} times the tokens/s of one process on {workers}: efficiency {rate / alone / workers:.0%}"


def missing_table(results: Results) -> Table:
    """Make the table of the missing measurements, with the reasons."""
    missing = [*_in(results, State.failed), *_in(results, State.not_measured)]
    rows = [(each.name, str(each.state), each.reason) for each in missing]
    headings = ("Not measured", "State", "Reason")
    return Table.of_rows(headings, rows, title="Not measured", text=headings)


def _in(results: Results, state: State) -> Iterable[Measurement]:
    return [each for each in results.measurements if each.state is state]


def line(found: Measurement) -> str:
    """Return the line of the terminal for a measurement that has just ended."""
    if found.state is State.measured:
        return f"{'ok':14}{found.name} ({duration(found.seconds)})"
    return f"{found.state:14}{found.name}: {found.reason}"
