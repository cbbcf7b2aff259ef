"""Implements `kd evaluate`: reads files, scores them by `kd/metrics/` as the stage evaluate does, writes tables.

All options and files are checked before anything is scored.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from kd.base.errors import UserError
from kd.base.escapes import visible
from kd.base.files import write_text
from kd.base.resources import cache_folder, folder
from kd.cli.labels import labelled, short
from kd.corpora.guards import Guards
from kd.corpora.lines import open_text
from kd.metrics import segments as of_segments
from kd.metrics.comet import Comet, CometScores
from kd.metrics.corpus import METRICS, Options, check_aligned, sacrebleu_metrics
from kd.metrics.judge import judge
from kd.metrics.score_cache import ScoreCache
from kd.metrics.significance import Resampling, Significance
from kd.metrics.testsets import TestSet, named_test_set
from kd.recipe.schema import GuardsConfig
from kd.report import weaknesses as shown_weaknesses
from kd.report.scores import ScoreTable, latex, markdown, terminal

_LOG = logging.getLogger(__name__)

COMET = "comet"
STANDARD_OUTPUT = "-"
_PAIR = re.compile(r"(.+)-([a-z]{2,3}(?:[-_][A-Z0-9][A-Za-z0-9]+)*)")  # a part in lower case is a language


@dataclass(frozen=True)
class Request:
    """The options and files, checked."""

    systems: dict[str, list[str]]  # by label, in the order given
    sources: list[str] | None
    references: list[list[str]]
    metrics: list[str]  # those that sacreBLEU computes
    comets: list[Comet]
    baseline: str | None
    resampling: Resampling | None
    options: Options


def evaluate(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    _check_outputs(options)
    request = _request(options)
    comet_scores = _comet_scores(request)
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
    _beyond_averages(options, request, comet_scores)
    return 0


# --- options and files -----------------------------------------------------------------------------------------------


def _request(options: argparse.Namespace) -> Request:
    files = labelled(options.hypothesis)
    baseline = _baseline(options.baseline, files)
    test_set, language = _test_set(options)
    settings = Options(options.tokenize, language)
    metrics, models = _metrics(options)
    sacrebleu_metrics(metrics, settings)  # raises UserError for an unknown name or a missing tokeniser
    resampling = None
    if options.resamples:
        resampling = Resampling(options.test, options.resamples, options.trials, options.seed, options.jobs)
        resampling.check()
    if options.worst and baseline is None:
        raise UserError("--worst has nothing to compare with.", "Give --baseline as well.")
    if not metrics and not models:
        raise UserError("There is no reference.", "Add --reference, --test-set or a reference-free COMET model.")
    sources = None if test_set.source is None else read_lines(test_set.source)
    references = [read_lines(path) for path in test_set.references]
    systems = {label: read_lines(path) for label, path in files.items()}
    _check_sides(test_set, metrics, models, options)
    _check_lines(systems, test_set, sources, references)
    comets = _comets(options, models, bool(references))
    return Request(systems, sources, references, metrics, comets, baseline, resampling, settings)


def _comets(options: argparse.Namespace, models: Sequence[str], references: bool) -> list[Comet]:
    cache = None if options.no_cache else ScoreCache(options.cache or cache_folder())
    comets = [
        Comet(
            model,
            cache=cache,
            batch_size=options.comet_batch,
            several_references=options.comet_references,
            device=options.device,
        )
        for model in models
    ]
    for comet in comets:
        if comet.needs_reference and not references:
            raise UserError(f"The COMET model {comet.name} reads a reference.", "Give --reference.")
    return comets


def read_lines(path: Path) -> list[str]:
    r"""Return the lines of a file, or of a pipe such as the shell's `<(command)`.

    A `\r` before `\n`, a byte order mark at the start and a `^Z` at the end are not part of the text, as in training.
    """
    return list(open_text(path))


def _baseline(given: str | None, files: Mapping[str, Path]) -> str | None:
    """Return the label of the baseline, which may be given by label or path."""
    if given is None:
        return None
    if given in files:
        return given
    for label, path in files.items():
        if path.resolve() == Path(given).resolve():
            return label
    raise UserError(f"The baseline {given} is not among the hypotheses.", f"Choose one of: {', '.join(files)}.")


def _test_set(options: argparse.Namespace) -> tuple[TestSet, str]:
    """Return source and references, and the code of the target language or an empty text."""
    if options.test_set is None:
        if options.language_pair and not options.language:
            options.language = languages_of(options.language_pair)[1]
        return TestSet(options.source, tuple(options.reference)), options.language or ""
    if options.source or options.reference:
        raise UserError("--test-set has its own source and references.", "Leave out --source and --reference.")
    if not options.language_pair:
        raise UserError("--test-set needs a language pair.", "Add --language-pair, such as en-de.")
    return (
        named_test_set(options.test_set, options.language_pair),
        options.language or languages_of(options.language_pair)[1],
    )


def languages_of(pair: str) -> tuple[str, str]:
    """Return the language codes of a pair, with region and script: `en-zh-CN` is `en` and `zh-CN`."""
    found = _PAIR.fullmatch(pair)
    source, target = found.groups() if found else (pair.partition("-")[0], pair.rpartition("-")[2])
    return source, target


def _metrics(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the names of the metrics and of the COMET models."""
    names = options.metrics or [*(["bleu", "chrf"] if options.reference or options.test_set else [])]
    wanted = [name.lower() for name in dict.fromkeys(names)]
    models = list(dict.fromkeys(options.comet_model))
    for name in wanted:
        if name not in (*METRICS, COMET):
            raise UserError(f"There is no metric {name!r}.", f"Choose among: {', '.join((*METRICS, COMET))}.")
    if COMET in wanted and not models:
        raise UserError("COMET needs a model.", "Give --comet-model, a folder or a name such as wmt22-comet-da.")
    if models and COMET not in wanted and options.metrics:
        raise UserError("--comet-model is given, and comet is not among the metrics.", "Add comet to --metrics.")
    return [name for name in wanted if name != COMET], models


def _check_sides(test_set: TestSet, metrics: Sequence[str], models: Sequence[str], options: argparse.Namespace) -> None:
    """Raise UserError if a reference or the source is missing that the options need."""
    wants_reference = metrics or options.weaknesses or options.worst or options.details
    if wants_reference and not test_set.references:
        raise UserError(f"{' and '.join(metrics) or 'This'} needs a reference.", "Give --reference.")
    if models and test_set.source is None:
        raise UserError("COMET reads the source as well.", "Give --source.")


def _check_lines(
    systems: Mapping[str, Sequence[str]],
    test_set: TestSet,
    sources: Sequence[str] | None,
    references: Sequence[Sequence[str]],
) -> None:
    """Raise UserError unless all files have the same number of lines; warn of empty lines in the output."""
    sides = {str(path): lines for path, lines in zip(test_set.references, references, strict=True)}
    if sources is not None:
        sides |= {str(test_set.source): sources}
    first = next(iter(sides))
    check_aligned(sides, [sides[first]], first=first)
    check_aligned(systems, [sides[first]], first=first)
    for label, lines in systems.items():
        blank = sum(not line.strip() for line in lines)
        if blank:
            _LOG.warning("%s: %d of %d lines are empty; they are scored as they are.", label, blank, len(lines))


# --- scores ----------------------------------------------------------------------------------------------------------


def _comet_scores(request: Request) -> list[CometScores]:
    found = []
    for model in request.comets:
        assert request.sources is not None
        found.append(model.scores(request.systems, request.sources, request.references))
        if model.cache_problem:
            _LOG.warning("The cache of COMET scores cannot be used (%s); nothing is kept.", model.cache_problem)
    return _distinguished(found, [model.name for model in request.comets])


def _distinguished(scores: Sequence[CometScores], models: Sequence[str]) -> list[CometScores]:
    """Add the names of the models where two scores have the same name."""
    names = [item.metric for item in scores]
    return [
        CometScores(f"{item.metric} ({model})", item.signature, item.segments) if names.count(item.metric) > 1 else item
        for item, model in zip(scores, models, strict=True)
    ]


def _write_scores(options: argparse.Namespace, request: Request, results: Sequence[Significance]) -> None:
    shown, common = short(list(request.systems))
    named = [replace(item, system=shown[item.system]) for item in results]
    table = ScoreTable(named, shown.get(request.baseline or ""), request.resampling)
    written = [
        (options.json, json.dumps([as_json(item) for item in results], ensure_ascii=False, indent=1) + "\n"),
        (options.markdown, markdown(table)),
        (options.latex, latex(table)),
    ]
    for place, text in written:
        _write(place, text)
    if not _to_standard_output(options):
        console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)
        console.print(terminal(table))
        if common:
            console.print(Text(f"names: without {visible(common)}", "dim"))


def _to_standard_output(options: argparse.Namespace) -> bool:
    """Whether a result for programs goes to standard output."""
    return STANDARD_OUTPUT in (options.json, options.markdown, options.latex)


WIDE = 200  # columns if the output is not a terminal, so that signatures are not wrapped


def as_json(result: Significance) -> dict[str, Any]:
    """Return a score as JSON values, unrounded."""
    content: dict[str, Any] = {
        "system": result.system,
        "metric": result.metric,
        "score": result.value,
        "signature": result.signature,
        "ci": list(result.interval) if result.interval else None,
        "p_value": result.p_value,
    }
    if result.duel:
        content["bootstrap"] = asdict(result.duel)
    return content


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise UserError if the folder of an output file does not exist."""
    for place in (options.json, options.markdown, options.latex, options.segments, options.details):
        if place is not None and str(place) != STANDARD_OUTPUT and not Path(place).absolute().parent.is_dir():
            folder = Path(place).absolute().parent
            raise UserError(
                f"{place} cannot be written: there is no folder {folder}.", "Create it, or give another path."
            )


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


# --- beyond averages -------------------------------------------------------------------------------------------------


def _beyond_averages(options: argparse.Namespace, request: Request, comet_scores: Sequence[CometScores]) -> None:
    if not (options.weaknesses or options.worst or options.segments or options.details):
        return
    scores = of_segments.segment_scores(request.systems, request.references, request.metrics, request.options)
    scores |= {item.metric: item.segments for item in comet_scores}
    if options.segments:
        _write(options.segments, _segments_text(options.segments, request, scores))
    counts: dict[str, of_segments.Weaknesses] = {}
    if options.weaknesses or options.details:
        guards = default_guards(languages_of(options.language_pair or "")[0], request.options.language)
        counts = {
            name: of_segments.weaknesses(
                lines,
                request.references,
                request.sources,
                metrics=request.metrics,
                options=request.options,
                guards=guards,
            )
            for name, lines in request.systems.items()
        }
    behind: list[of_segments.Behind] = []
    if options.worst and request.baseline is not None:
        # chrF is a better metric of single sentences than BLEU.
        metric = "chrF2" if "chrF2" in scores else next(iter(scores))
        behind = of_segments.worst(
            scores, metric, request.baseline, request.systems, request.references, request.sources, options.worst
        )
    if options.details:
        details = {
            "weaknesses": {name: asdict(item) for name, item in counts.items()},
            "worst": [asdict(item) for item in behind],
        }
        _write(options.details, json.dumps(details, ensure_ascii=False, indent=1) + "\n")
    if not _to_standard_output(options):
        console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
        shown, _ = short(list(request.systems))
        if options.weaknesses:
            named = {shown[name]: item for name, item in counts.items()}
            console.print(shown_weaknesses.failings(named).terminal())
            console.print(shown_weaknesses.by_length(named).terminal())
        if behind:
            told = [replace(item, system=shown[item.system]) for item in behind]
            console.print(shown_weaknesses.behind(told, shown[request.baseline or ""]))


def default_guards(source_language: str, target_language: str) -> Guards:
    """Return the guards with the default settings of recipes."""
    settings = yaml.safe_load((folder("conf") / "guards" / "default.yaml").read_text("utf-8"))
    return Guards(GuardsConfig(**settings), source_language, target_language)


def _segments_text(place: Path, request: Request, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the scores of segments, one line per system and segment."""
    rows: Iterable[tuple[str, int, dict[str, float]]] = (
        (system, i, {metric: scores[metric][system][i] for metric in scores})
        for system, lines in request.systems.items()
        for i in range(len(lines))
    )
    if place.suffix == ".tsv":
        header = "\t".join(["system", "segment", *scores])
        return (
            "\n".join(
                [header, *("\t".join([system, str(i + 1), *map(repr, values.values())]) for system, i, values in rows)]
            )
            + os.linesep
        )
    return "".join(
        json.dumps({"system": system, "segment": i + 1, **values}, ensure_ascii=False) + "\n"
        for system, i, values in rows
    )
