"""Implement `kd evaluate`: score files by `kd/metrics/`, as the evaluate stage does, and write the tables."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from kd.base.errors import UserError
from kd.base.escapes import visible
from kd.base.files import write_text
from kd.base.resources import folder
from kd.cli.evaluate_request import STANDARD_OUTPUT, Request, check_places, languages_of, read_request
from kd.cli.labels import short
from kd.corpora.guards import Guards
from kd.corpora.lines import open_text
from kd.metrics.comet import CometScores
from kd.metrics.judge import judge
from kd.metrics.segments import Behind, Weaknesses, segment_scores, weaknesses, worst
from kd.metrics.significance import Significance
from kd.metrics.words import TRAINING_SENTENCES, frequencies
from kd.recipe.schema import GuardsConfig
from kd.report import weaknesses as tables
from kd.report.scores import ScoreTable, latex, markdown, terminal

_LOG = logging.getLogger(__name__)
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # metric -> system -> one per segment
WIDE = 200  # columns where the output is no terminal, so that signatures stay whole


def evaluate(options: argparse.Namespace) -> int:
    """Score the files that the options name, and print and write the tables.

    Returns:
        The exit status.
    """
    check_places(options)
    request = read_request(options)
    comet_scores = list(_comet_scores(request))
    with _phases() as phase:
        tested = f", {request.resampling.samples:,} resamplings" if request.resampling else ""
        phase(f"scoring {len(request.systems)} systems{tested}")
        results = judge(
            request.systems,
            request.references,
            request.metrics,
            comet_scores=comet_scores,
            baseline=request.baseline,
            resampling=request.resampling,
            options=request.options,
        )
    _write_scores(options, request, results)
    if options.weaknesses or options.worst or options.segments or options.details:
        with _phases() as phase:
            details = _details(options, request, comet_scores, phase)
        _write_details(options, request, *details)
    _print_places(options)
    return 0


@contextmanager
def _phases() -> Iterator[Callable[[str], None]]:
    """Show the running phase with its time if standard error is a terminal; yields a function that sets the phase."""
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading")

        def phase(text: str) -> None:
            bar.reset(task, description=text)

        yield phase


def _print(shown: RenderableType) -> None:
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(shown)


# --- scores ----------------------------------------------------------------------------------------------------------


def _comet_scores(request: Request) -> Iterator[CometScores]:
    """Yield the scores of each COMET model, which shows its own progress; models of the same kind carry their names."""
    found = []
    for model in request.comets:
        assert request.sources is not None
        found.append(model.scores(request.systems, request.sources, request.references))
        if model.cache_problem:
            _LOG.warning("The cache of COMET scores cannot be used (%s); scores are not kept.", model.cache_problem)
    doubled = {metric for metric, number in Counter(item.metric for item in found).items() if number > 1}
    for item, model in zip(found, request.comets, strict=True):
        yield replace(item, metric=f"{item.metric} ({model.name})") if item.metric in doubled else item


def _write_scores(options: argparse.Namespace, request: Request, results: Sequence[Significance]) -> None:
    shown, common = short(list(request.systems))
    named = [replace(item, system=shown[item.system]) for item in results]
    table = ScoreTable(named, shown.get(request.baseline or ""), request.resampling)
    _write(options.json, json.dumps([as_json(item) for item in results], ensure_ascii=False, indent=1) + "\n")
    _write(options.markdown, markdown(table))
    _write(options.latex, latex(table))
    if not _to_standard_output(options):
        _print(terminal(table))
        if common:
            _print(Text(f"names: without {visible(common)}", "dim"))
        if request.baseline is None and request.resampling and len(request.systems) > 1:
            first = shlex.quote(visible(next(iter(request.systems))))
            _print(Text(f"The differences were not tested. For p-values, add --baseline {first}.", "dim"))


def _print_places(options: argparse.Namespace) -> None:
    """Print the files that were written; on standard error if a program reads standard output."""
    stream = sys.stderr if _to_standard_output(options) else sys.stdout
    for place in (options.json, options.markdown, options.latex, options.segments, options.details):
        if place is not None and str(place) != STANDARD_OUTPUT:
            print(f"Wrote {visible(str(place))}.", file=stream)


def _to_standard_output(options: argparse.Namespace) -> bool:
    """Return whether a program reads standard output."""
    return STANDARD_OUTPUT in (options.json, options.markdown, options.latex)


def as_json(result: Significance) -> dict[str, Any]:
    """Return a score as unrounded JSON values."""
    content: dict[str, Any] = {
        "system": result.system,
        "metric": result.metric,
        "score": result.value,
        "signature": result.signature,
        "ci": list(result.interval) if result.interval else None,
        "p_value": result.p_value,
    }
    return content | ({"bootstrap": asdict(result.duel)} if result.duel else {})


def _write(place: str | Path | None, text: str) -> None:
    if place is None:
        return
    if str(place) == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return
    try:
        write_text(Path(place), text, durable=False)
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}.", "Give another path.") from None


# --- details ---------------------------------------------------------------------------------------------------------


def _details(
    options: argparse.Namespace, request: Request, comet_scores: Sequence[CometScores], phase: Callable[[str], None]
) -> tuple[Scores, dict[str, Weaknesses], list[Behind]]:
    """As requested, score segments, count weaknesses and find the segments furthest behind the baseline."""
    phase("scoring segments")
    scores = segment_scores(request.systems, request.references, request.metrics, request.options)
    scores |= {item.metric: item.segments for item in comet_scores}
    counts: dict[str, Weaknesses] = {}
    if options.weaknesses or options.details:
        guards = default_guards(languages_of(options.language_pair or "")[0], request.options.language)
        known = _training_words(options.training_text, phase)
        for number, (name, lines) in enumerate(request.systems.items(), 1):
            phase(f"counting weaknesses of {visible(name)} ({number} of {len(request.systems)})")
            counts[name] = weaknesses(
                lines,
                request.references,
                request.sources,
                metrics=request.metrics,
                options=request.options,
                guards=guards,
                known=known,
            )
    behind: list[Behind] = []
    if options.worst and request.baseline is not None:
        metric = "chrF2" if "chrF2" in scores else next(iter(scores))  # chrF tells sentences apart better than BLEU
        behind = worst(
            scores, metric, request.baseline, request.systems, request.references, request.sources, options.worst
        )
    return scores, counts, behind


def _training_words(place: Path | None, phase: Callable[[str], None]) -> Counter[str] | None:
    """Count the words of the training text; None if no training text was given."""
    if place is None:
        return None
    phase(f"counting words of {visible(str(place))}")
    return frequencies(islice(open_text(place), TRAINING_SENTENCES))


def _write_details(
    options: argparse.Namespace,
    request: Request,
    scores: Scores,
    counts: Mapping[str, Weaknesses],
    behind: Sequence[Behind],
) -> None:
    if options.segments:
        _write(options.segments, _segments_text(options.segments, request, scores))
    if options.details:
        content = {
            "weaknesses": {name: asdict(item) for name, item in counts.items()},
            "worst": [asdict(item) for item in behind],
        }
        _write(options.details, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    if _to_standard_output(options):
        return
    shown, _ = short(list(request.systems))
    if options.weaknesses:
        named = {shown[name]: item for name, item in counts.items()}
        for table in (tables.failings(named), tables.by_length(named), tables.by_frequency(named)):
            _print(table.terminal())
        for name, item in named.items():
            _print(replace(tables.ngrams(item), title=f"N-grams too frequent and too rare in {name}").terminal())
    if behind:
        told = [replace(item, system=shown[item.system]) for item in behind]
        _print(tables.behind(told, shown[request.baseline or ""]))


def default_guards(source_language: str, target_language: str) -> Guards:
    """Return the guards with the default settings of recipes."""
    settings = yaml.safe_load((folder("conf") / "guards" / "default.yaml").read_text("utf-8"))
    return Guards(GuardsConfig(**settings), source_language, target_language)


def _segments_text(place: Path, request: Request, scores: Scores) -> str:
    """Format the segments' scores, one line per system and segment: tab-separated, or JSON lines."""
    rows = [
        (system, i + 1, {metric: scores[metric][system][i] for metric in scores})
        for system, lines in request.systems.items()
        for i in range(len(lines))
    ]
    if place.suffix == ".tsv":
        lines = (("system", "segment", *scores), *((system, i, *values.values()) for system, i, values in rows))
        return "".join("\t".join(map(str, line)) + "\n" for line in lines)
    lines_of_json = ({"system": system, "segment": i, **values} for system, i, values in rows)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines_of_json)
