"""Read and check the request to `kd evaluate`: options, files, test sets and COMET models.

Every mistake is reported before anything is scored.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd.base.errors import UserError
from kd.base.resources import cache_folder
from kd.cli.labels import labelled
from kd.corpora.lines import open_text
from kd.metrics.comet import Comet
from kd.metrics.corpus import METRICS, Options, check_aligned, sacrebleu_metrics
from kd.metrics.score_cache import ScoreCache
from kd.metrics.significance import Resampling
from kd.metrics.testsets import TestSet, named_test_set
from kd.models.languages import primary

COMET = "comet"
UNSPACED, CJK = ("zh", "ja", "ko"), re.compile("[\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
SAMPLE = 200  # lines whose script is looked at
BLANK_REFERENCES = (
    "They are scored as empty references.",
    "COMET and the counts leave out an empty reference beside others; sacreBLEU's metrics score it as an empty "
    "reference.",
)
"""Warnings about blank lines, for a single reference and for one of several."""
ADVICE = "Add --language zh, ja or ko."
STANDARD_OUTPUT = "-"
_LOG = logging.getLogger(__name__)
_PAIR = re.compile(r"(.+)-([a-z]{2,3}(?:[-_][A-Z0-9][A-Za-z0-9]+)*)")  # a part in lower case is a language


@dataclass(frozen=True)
class Request:
    """The checked request of a command line; `metrics` holds the metrics that sacreBLEU computes."""

    systems: dict[str, list[str]]  # by label, in the order given
    sources: list[str] | None
    references: list[list[str]]
    metrics: list[str]
    comets: list[Comet]
    baseline: str | None
    resampling: Resampling | None
    options: Options


def read_request(options: argparse.Namespace) -> Request:
    """Check the options and read the files. Raises UserError for any invalid option or file."""
    files = labelled(options.hypothesis)
    options.reference = [*options.reference, *options.refs]
    if options.paired:  # sacreBLEU's: the first system is the baseline
        options.test = options.paired
        options.baseline = options.baseline or next(iter(files))
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
        raise UserError("--worst needs a baseline to compare with.", "Give --baseline as well.")
    if not metrics and not models:
        raise UserError("There is no reference.", "Add --reference, --test-set or a reference-free COMET model.")
    sources = None if test_set.source is None else read_lines(test_set.source)
    references = [read_lines(path) for path in test_set.references]
    systems = {label: read_lines(path) for label, path in files.items()}
    _check_sides(test_set, metrics, models, options)
    _check_lines(systems, test_set, sources, references)
    _warn_of_tokeniser(references, metrics, settings)
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

    A `\r` before `\n`, a byte order mark at the start and a `^Z` at the end are not content, as in training text.
    """
    return list(open_text(path))


def _baseline(given: str | None, files: Mapping[str, Path]) -> str | None:
    """Return the label of a hypothesis that was given by its label or its path."""
    if given is None:
        return None
    if given in files:
        return given
    for label, path in files.items():
        if path.resolve() == Path(given).resolve():
            return label
    raise UserError(f"The baseline {given} is not among the hypotheses.", f"Choose one of: {', '.join(files)}.")


def _test_set(options: argparse.Namespace) -> tuple[TestSet, str]:
    """Return source and references, and the target language; empty if unknown."""
    if options.test_set is None:
        if options.language_pair and not options.language:
            options.language = languages_of(options.language_pair)[1]
        return TestSet(options.source, tuple(options.reference)), options.language or ""
    if options.source or options.reference:
        raise UserError("--test-set brings its own source and references.", "Leave out --source and --reference.")
    if not options.language_pair:
        raise UserError("--test-set needs a language pair.", "Add --language-pair, such as en-de.")
    return (
        named_test_set(options.test_set, options.language_pair),
        options.language or languages_of(options.language_pair)[1],
    )


def languages_of(pair: str) -> tuple[str, str]:
    """Split a language pair into codes with regions and scripts: `en-zh-CN` is English to Chinese, not to `CN`."""
    found = _PAIR.fullmatch(pair)
    source, target = found.groups() if found else (pair.partition("-")[0], pair.rpartition("-")[2])
    return source, target


def _metrics(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the metrics of sacreBLEU and the COMET models."""
    names = options.metrics or [*(["bleu", "chrf"] if options.reference or options.test_set else [])]
    wanted = [name.lower() for name in dict.fromkeys(names)]
    models = list(dict.fromkeys(options.comet_model))
    for name in wanted:
        if name not in (*METRICS, COMET):
            raise UserError(f"There is no metric {name!r}.", f"Choose among: {', '.join((*METRICS, COMET))}.")
    if COMET in wanted and not models:
        raise UserError("COMET needs a model.", "Give --comet-model, a folder or a name such as wmt22-comet-da.")
    if models and COMET not in wanted and options.metrics:
        raise UserError("--comet-model is given, but comet is not among the metrics.", "Add comet to --metrics.")
    return [name for name in wanted if name != COMET], models


def _check_sides(test_set: TestSet, metrics: Sequence[str], models: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse metrics and counts that lack a source or a reference."""
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
    """Refuse sides of unequal length; warn about blank lines."""
    sides = {str(path): lines for path, lines in zip(test_set.references, references, strict=True)}
    if sources is not None:
        sides |= {str(test_set.source): sources}
    first = next(iter(sides))
    check_aligned(sides, [sides[first]], first=first)
    check_aligned(systems, [sides[first]], first=first)
    for label, lines in systems.items():
        blank = sum(not line.strip() for line in lines)
        if blank:
            _LOG.warning("%s: %d of %d lines are empty; they are scored as empty text.", label, blank, len(lines))
    for path, lines in zip(test_set.references, references, strict=True):
        blank = sum(not line.strip() for line in lines)
        if blank:
            fate = BLANK_REFERENCES[len(references) > 1]
            _LOG.warning("%s: %d of %d lines are empty. %s", path, blank, len(lines), fate)


def _warn_of_tokeniser(references: Sequence[Sequence[str]], metrics: Sequence[str], options: Options) -> None:
    """Warn if BLEU would split text without spaces only at spaces."""
    if "bleu" not in metrics or options.tokenize or primary(options.language) in UNSPACED:
        return
    letters = [char for texts in references for line in texts[:SAMPLE] for char in line if char.isalpha()]
    if sum(bool(CJK.match(char)) for char in letters) > len(letters) / 2:
        _LOG.warning("The references are Chinese, Japanese or Korean, and BLEU tokenises by 13a. %s", ADVICE)


def check_places(options: argparse.Namespace) -> None:
    """Refuse an output file whose folder does not exist, before anything is scored."""
    for place in (options.json, options.markdown, options.latex, options.segments, options.details):
        if place is not None and str(place) != STANDARD_OUTPUT and not Path(place).absolute().parent.is_dir():
            folder = Path(place).absolute().parent
            raise UserError(
                f"{place} cannot be written: there is no folder {folder}.", "Create it, or give another path."
            )
