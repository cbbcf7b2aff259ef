"""Implement `kd select`: read lists and references in step, score them in several processes, write in order.

Memory does not grow with the files; the output gets its name when it is complete.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, TextIO

from kd.base.bar import Bar
from kd.base.errors import UserError
from kd.base.processes import Tick, Workers
from kd.corpora.lines import STANDARD_INPUT, open_text
from kd.corpora.moses import PIECES, UnreadList, group_fairseq, group_given, parse_fairseq, parse_given
from kd.corpora.scores import ScoreFile
from kd.corpora.writing import LineWriter
from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates, scored_metrics, sentence_metric, uses_external_scores
from kd.models.languages import bleu_tokenizer, language_of_script
from kd.recipe.schema import SelectConfig
from kd.report.formatting import sentence_metric as sentence_metric_name

STREAM = "-"
CHUNK = 400  # lists per unit of work
FEWEST = 20_000  # lists per process, below which another one costs more than it saves
LOOKED_AT = 500  # lines of the reference, for their script

FORMATS = {"moses": (group_given, parse_given), "fairseq": (group_fairseq, parse_fairseq)}


@dataclass(frozen=True)
class _Chunk:
    """A unit of work: references and their lists, as unparsed lines."""

    references: list[str]
    lists: list[UnreadList | None]  # None: no list for this reference
    scores: list[list[float]]  # external ones, one per hypothesis


class _Chosen(NamedTuple):
    """The choice for one line of the reference."""

    text: str
    rank: int | None = None  # from 0; None: there was no list
    score: float = 0.0
    first_score: float = 0.0
    unsorted: bool = False  # the list was not in the order of its scores


def select(options: argparse.Namespace) -> int:
    """Select, write, and print a summary; return the exit status."""
    config = _config(options)
    _check_paths(options)
    signature = _signature(config)
    summary = _Summary(config.metric, signature)
    with ExitStack() as stack:
        output: LineWriter | _Printer = _Printer() if str(options.output) == STREAM else LineWriter(options.output)
        stack.enter_context(output)
        ranks = stack.enter_context(LineWriter(options.ranks)) if options.ranks else None
        total = sum(1 for _ in open_text(options.reference))
        bar = stack.enter_context(Bar("selecting", total, "lists"))
        processes = max(1, min(options.threads, total // FEWEST))
        shared = config, options.format, options.nbest, options.missing, options.as_is
        workers = stack.enter_context(Workers(processes, _make_judge, *shared))
        for chosen in workers.map(_judge, _chunks(options, config)):
            for line in chosen:
                output.write(line.text)
                if ranks is not None:
                    ranks.write("-" if line.rank is None else f"{line.rank}\t{line.score!r}")
                summary.add(line)
            bar.advance(len(chosen))
    summary.show(sys.stderr if str(options.output) == STREAM else sys.stdout)
    return 0


class _Printer:
    """Standard output with the interface of a `LineWriter`."""

    def write(self, line: str) -> None:
        """Print a line."""
        sys.stdout.buffer.write(line.encode("utf-8") + b"\n")

    def __enter__(self) -> _Printer:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()


def _config(options: argparse.Namespace) -> SelectConfig:
    """Return the options as the stage's settings; raises UserError for external scores without metric or file."""
    mix: dict[str, float] = {}
    for item in options.mix:
        name, _, weight = item.partition("=")
        try:
            mix[name] = float(weight)
        except ValueError:
            raise UserError(f"--mix {item} has no weight.", "Write --mix bleu=0.5 chrf=0.5") from None
    _check_metric(options, mix)
    config = SelectConfig(
        metric=options.metric,
        smoothing=options.smoothing,
        tokenizer=options.tokenizer or bleu_tokenizer(_language(options)),
        smooth_value=options.smooth_value,
        lowercase=options.lowercase,
        word_order=options.word_order,
        mix=mix,
    )
    if scored := scored_metrics(config):
        raise UserError(
            f"kd select does not compute the metric {scored[0]}, which needs a COMET model.",
            "Give its scores with --metric external --scores FILE, or select in a recipe (docs/selection.md).",
        )
    if uses_external_scores(config) and options.scores is None:
        raise UserError("The metric external needs scores.", "Add --scores FILE.")
    if options.scores is not None and not uses_external_scores(config):
        raise UserError("--scores has no effect without the metric external.", "Add --metric external.")
    return config


def _language(options: argparse.Namespace) -> str:
    """Return the language of the references: as given, or as their script shows."""
    if options.language:
        return str(options.language)
    return language_of_script(islice(open_text(options.reference), LOOKED_AT)) or ""


# Options that some metrics ignore: default, and the metrics that use it.
_USED_BY: dict[str, tuple[object, tuple[str, ...]]] = {
    "smoothing": ("exp", ("bleu",)),
    "smooth_value": (None, ("bleu",)),
    "tokenizer": (None, ("bleu",)),
    "language": (None, ("bleu",)),
    "lowercase": (False, ("bleu", "chrf")),
    "word_order": (0, ("chrf",)),
}


def _check_metric(options: argparse.Namespace, mix: Mapping[str, float]) -> None:
    """Raise UserError for an option that the metric ignores."""
    if mix and options.metric != "mix":
        raise UserError(f"--mix has no effect with --metric {options.metric}.", "Add --metric mix.")
    if options.metric == "mix" and not mix:
        raise UserError("--metric mix has no metrics to mix.", "Name metrics and weights: --mix bleu=0.5 chrf=0.5")
    for name, (default, users) in _USED_BY.items():
        if getattr(options, name) != default and not {options.metric, *mix} & set(users):
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} has no effect with --metric {options.metric}.",
                f"It is an option of {' and '.join(users)}: add --metric {users[-1]}, or leave it out.",
            )
    if options.smooth_value is not None and options.smoothing not in ("floor", "add-k"):
        raise UserError(
            f"--smooth-value has no effect with --smoothing {options.smoothing}.", "Add --smoothing floor or add-k."
        )


def _signature(config: SelectConfig) -> str:
    """Return the metric's signature; raises UserError with names of options instead of keys."""
    try:
        return sentence_metric(config).signature
    except UserError as error:  # it names the keys of a recipe
        raise UserError(_as_options(error.problem), _as_options(error.hint)) from None


def _as_options(text: str) -> str:
    text = re.sub(r"select\.mix\.(\w+)", r"--mix \1", text)
    return (
        re.sub(r"select\.(\w+)=?", lambda key: f"--{key[1].replace('_', '-')} ", text)
        .replace(" )", ")")
        .replace("  ", " ")
    )


def _check_paths(options: argparse.Namespace) -> None:
    """Raise UserError for an output that is also an input, or that cannot be written."""
    if str(options.nbest) == STREAM:
        options.nbest = STANDARD_INPUT
    read = {path.resolve() for path in (options.nbest, options.reference, options.scores) if path is not None}
    written = [path for path in (options.output, options.ranks) if path is not None and str(path) != STREAM]
    for path in written:
        if path.resolve() in read:
            raise UserError(f"{path} is an input and would be overwritten.", "Give another file.")
        if not path.absolute().parent.is_dir():
            raise UserError(f"The folder {path.absolute().parent} does not exist.", "Create it, or give another path.")
        if path.suffix in (".xz", ".bz2"):
            raise UserError(
                f"kd select does not compress to {path.suffix}.", f"Give {path} the suffix .gz or .zst, or none."
            )
    if len({path.resolve() for path in written}) < len(written):
        raise UserError("--output and --ranks are the same file.", "Give two files.")


# --- reading in step ----------------------------------------------------------------------------------------------


def _chunks(options: argparse.Namespace, config: SelectConfig) -> Iterator[_Chunk]:
    """Yield lists and references, a few hundred at a time."""
    group, _ = FORMATS[options.format]
    scores = ScoreFile(options.scores) if uses_external_scores(config) else None
    rows = _beside(open_text(options.reference), group(options.nbest), options)
    while rows_of_chunk := list(islice(rows, CHUNK)):
        references, lists = [reference for reference, _ in rows_of_chunk], [given for _, given in rows_of_chunk]
        taken = [] if scores is None else [scores.take(len(given.lines)) if given else [] for given in lists]
        yield _Chunk(references, lists, taken)
    if scores is not None:
        scores.finish()


def _beside(
    references: Iterator[str], lists: Iterator[UnreadList], options: argparse.Namespace
) -> Iterator[tuple[str, UnreadList | None]]:
    """Yield every reference with its list; raises UserError naming the line of one without a partner."""
    path, lines = options.nbest, 0
    given = next(lists, None)
    for place, reference in enumerate(references):
        lines = place + 1
        if given is not None and given.id == place:
            yield reference, given
            last, given = given, next(lists, None)
            if given is not None and given.id <= place:
                what = "occurs twice" if given.id == last.id else f"comes after {last.id}"
                raise UserError(f"{path}, line {given.line}: the id {given.id} {what}.", "Sort the file by id.")
        elif options.missing != "refuse":
            yield reference, None
        elif given is None:
            raise UserError(
                f"{path} ends before the list of {place}, and {options.reference} goes on with line {lines}.",
                "Ids are line numbers of the reference, from 0. Give every list, or --missing gold.",
            )
        else:
            raise UserError(
                f"{path}, line {given.line}: the list has the id {given.id}, but {place} was expected.",
                "Ids are line numbers of the reference, from 0. Give every list, or --missing gold.",
            )
    if given is not None:
        raise UserError(
            f"{path}, line {given.line}: the list of {given.id} has no line in {options.reference}, "
            f"which ends after line {lines}.",
            "Ids are line numbers of the reference, from 0.",
        )


# --- scoring in worker processes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judge:
    """The context of a worker process."""

    chooser: Chooser
    parse: Callable[[str], tuple[str, float]]
    path: Path
    missing: str
    as_is: bool


def _make_judge(config: SelectConfig, format_: str, path: Path, missing: str, as_is: bool) -> _Judge:
    """Make the metric once in each process, because it caches scores."""
    return _Judge(Chooser(config), FORMATS[format_][1], path, missing, as_is)


def _judge(judge: _Judge, chunk: _Chunk, _: Tick) -> list[_Chosen]:
    places = [place for place, given in enumerate(chunk.lists) if given is not None]
    candidates = []
    for place in places:
        given = chunk.lists[place]
        assert given is not None
        texts, model_scores = _parsed(given, judge)
        given_scores = {"external": chunk.scores[place]} if chunk.scores else {}
        candidates.append(Candidates(texts, chunk.references[place], model_scores, given_scores))
    chosen = [_Chosen(reference if judge.missing == "gold" else "") for reference in chunk.references]
    for place, item, choice in zip(places, candidates, judge.chooser.choose(candidates), strict=True):
        assert choice.rank is not None  # neither guards nor variants are used
        scores = item.model_scores
        unsorted = any(second > first for first, second in pairwise(scores))
        chosen[place] = _Chosen(
            item.hypotheses[choice.rank], choice.rank, choice.score, choice.first_score, unsorted=unsorted
        )
    return chosen


def _parsed(given: UnreadList, judge: _Judge) -> tuple[list[str], list[float]]:
    """Return the texts and scores of a list; raises UserError naming a malformed line."""
    texts, scores = [], []
    for number, line in given.numbered():
        try:
            text, score = judge.parse(line)
        except ValueError as error:
            raise UserError(
                f"{judge.path}, line {number}: {error}.", "Give n-best lists: see `kd select --help`."
            ) from None
        if not judge.as_is and PIECES.search(text):
            raise UserError(
                f"{judge.path}, line {number}: the hypothesis is in sub-words: {text[:40]!r}.",
                "Give detokenised text (fairseq-generate: --remove-bpe; marian-decoder: without --no-spm-decode), or "
                "add --as-is.",
            )
        texts.append(text)
        scores.append(score)
    return texts, scores


# --- reporting ------------------------------------------------------------------------------------------------------


@dataclass
class _Summary:
    """The counts and means that are printed at the end."""

    metric: str
    signature: str
    lines: int = 0
    lists: int = 0
    changed: int = 0
    unsorted: int = 0
    sum_first: float = 0.0
    sum_chosen: float = 0.0

    def add(self, line: _Chosen) -> None:
        """Count one line of the output."""
        self.lines += 1
        if line.rank is not None:
            self.lists += 1
            self.changed += line.rank > 0
            self.unsorted += line.unsorted
            self.sum_first += line.first_score
            self.sum_chosen += line.score

    def show(self, out: TextIO) -> None:
        """Print the summary."""
        first, chosen = (total / max(1, self.lists) for total in (self.sum_first, self.sum_chosen))
        digits = 3 if self.metric in ("model", "external") else 2
        metric = sentence_metric_name(self.metric)
        rows = {
            "lists": f"{self.lists:,}",
            "lines without a list": f"{self.lines - self.lists:,}" if self.lines > self.lists else "",
            "lists not in order of score": f"{self.unsorted:,}: `first` is the first line" if self.unsorted else "",
            "another hypothesis than the first chosen": f"{self.changed:,} ({self.changed / max(1, self.lists):.1%})",
            f"mean {metric} of the first": f"{first:.{digits}f}",
            f"mean {metric} of the chosen": f"{chosen:.{digits}f}",
            "signature": self.signature,
        }
        for label, value in rows.items():
            if value:
                print(f"{label:<29}  {value}", file=out)
