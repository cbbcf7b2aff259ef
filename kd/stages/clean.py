"""Clean: remove pairs that are unfit for training, counted by the first filter that rejects them, then duplicates.

Corpora that the recipe declares as dev or test sets are left out. Of text without translations, only the filters that
judge one side apply, and a sentence that is a source of the bilingual corpus is a duplicate. Shards are processed in
parallel, and the output does not depend on the number of processes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.processes import Tick, Workers, share
from kd.corpora.cleaning import Piece, Repeats, Rules, Tally, drop_repeats, filter_piece, source_keys
from kd.corpora.duplicates import DuplicateFinder, Verdicts
from kd.corpora.filters import DUPLICATES, Setting, parse
from kd.corpora.filters.contract import Rewriter
from kd.corpora.filters.score import ScoreConfig, Unscored
from kd.corpora.filters.words import Copies
from kd.corpora.ids import Origin
from kd.corpora.rejects import FILE as REJECTED
from kd.corpora.rejects import Sample
from kd.corpora.shard import Shard
from kd.corpora.shards import Corpus, CorpusWriter
from kd.models.known import Known, by_pairs
from kd.pipeline.fingerprint import canonical
from kd.pipeline.forecast import StageForecast
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import CleanConfig, SameBy

COUNTS = "counts.json"
WORK = ".work"  # folder of intermediate files
# Kinds of filters that reject many pairs only if files, sides or languages are mixed up.
MISTAKEN = frozenset(("ratio", "scripts", "copies", "numbers", "language"))
UNNAMED = ("source", "target")  # the languages of recipe=files, until the user names them
MUCH = 0.2  # share of rejected pairs from which a warning is printed
PROCESS_PAIRS = 20_000  # fewest pairs for a further process, whose start takes a second


class Clean(Kind[CleanConfig]):
    """Filter the training corpora of a language pair and join them."""

    name = "clean"
    version = 5
    config = CleanConfig
    roles: ClassVar = {
        "corpus": Role(),
        "seen": Role(optional=True),  # of source-only text: its sources in this corpus are duplicates
    }
    resources = "cpu"

    def validate(self, config: CleanConfig) -> None:
        """Raise UserError for a filter or a setting of a filter that does not exist."""
        parse(config.filters)

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task, identified by the enabled filters in their order."""
        config: CleanConfig = stage.config
        filters = [[setting.label, setting.kind, _identity(setting)] for setting in parse(config.filters)]
        duplicates = canonical(config.duplicates) if config.duplicates.enabled else None
        yield TaskSpec("all", {"filters": filters, "duplicates": duplicates, "rejects": config.rejects})

    def run(self, job: Job[CleanConfig]) -> None:
        """Apply the filters to each shard, then remove duplicates."""
        corpora = _training(job)
        rules = _rules(job, corpora)
        work = job.out / WORK
        shards = [shard for corpus in corpora for shard in corpus.shards]
        pieces = [Piece(shard, f"{number:05d}", work) for number, shard in enumerate(shards)]
        origins = [origin for corpus in corpora for origin in corpus.origins.values()]
        tally, sample = Tally(), Sample(job.config.rejects)
        work.mkdir()
        processes = _processes(job, shards)
        with (
            Workers(processes, share, rules) as workers,
            CorpusWriter(job.out, rules.languages, None, origins=origins) as writer,
        ):
            for piece, part in _cleaned(job, rules, pieces, workers):
                tally.add(part)
                sample.merge(part.rejects)
                if piece is not None:
                    writer.take(Corpus(piece.filtered))
                    shutil.rmtree(piece.filtered)
        shutil.rmtree(work)
        counts = _counts(tally, rules, {origin.prefix: origin for origin in origins})
        if not writer.pairs:
            raise _nothing_left(str(job.axis), counts["dropped"], rules.filters)
        sample.write(job.out / REJECTED)
        (job.out / COUNTS).write_text(json.dumps(counts, ensure_ascii=False), "utf-8")

    def check(self, job: Job[CleanConfig]) -> Summary:
        """Compare the output with its index, and the counts with one another and with the input."""
        corpus = Corpus(job.out)
        with Workers(_processes(job, corpus.shards), share, corpus) as workers:
            tick = partial(job.progress.update, "checking", total=corpus.pairs, unit="pairs")
            for _ in workers.map(_verify, corpus.shards, tick):
                pass
        counts = json.loads((job.out / COUNTS).read_text("utf-8"))
        entered = sum(each.pairs for each in _training(job))
        if counts["in"] != entered or entered - sum(counts["dropped"].values()) != corpus.pairs:
            raise IncompleteArtifact(
                f"{job.out}: {entered} pairs came in, {counts['dropped']} were dropped, but {corpus.pairs} are left."
            )
        facts = {key: counts[key] for key in ("corpora", "rewritten", "idle", "need both sides") if key in counts}
        facts["note"] = _note(entered, corpus.pairs, counts)
        if counts["idle"] and corpus.languages == UNNAMED:
            named = f"pairs.{job.axis}.source=en pairs.{job.axis}.target=de"
            facts["note"] += f" (set the languages to use them, such as {named})"
        return Summary({"pairs in": entered, "pairs out": corpus.pairs}, counts["dropped"], facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs that are read; duplicates are found in temporary files."""
        text = known.input(stage, "corpus")
        # benchmarks/bench_memory.py, 10 million pairs: 1.29 times the compressed input at the peak, 1.0 of it is kept.
        return by_pairs(stage, text, output=replace(text, pairs=text.pairs.times(known.kept)), temporary_share=0.3)


def _nothing_left(pair: str, dropped: Counter[str], filters: Sequence[Setting]) -> UserError:
    why = ", ".join(f"{label} {count:,}" for label, count in dropped.most_common() if count)
    what = f"Cleaning left no pair of {pair}; dropped by {why}"
    # Do not propose looser settings: they would train a model that copies.
    if 2 * sum(dropped[setting.label] for setting in filters if setting.kind == Copies.kind) > dropped.total():
        return UserError(
            f"{what}: source and target are nearly the same text.", "Check that these are the right files."
        )
    return UserError(f"{what}.", "Loosen the settings of clean.")


def _note(entered: int, left: int, counts: Mapping[str, Any]) -> str:
    """Return a sentence on the pairs kept, the filter that rejected most, and the filters that could not be used."""
    parts = [f"kept {left:,} of {entered:,} pairs"]
    most, count = max(counts["dropped"].items(), key=lambda item: item[1], default=("", 0))
    if count:
        parts[0] += f" ({most} dropped {count:,})"
    suspicious = sum(counts["dropped"].get(label, 0) for label in counts.get("suspicious", ()))
    if suspicious > MUCH * entered:
        what = "PAIRS DO NOT LOOK LIKE TRANSLATIONS"
        if "need both sides" in counts:
            what = "SENTENCES ARE NOT IN THE SOURCE LANGUAGE"
        parts.append(f"WARNING: {suspicious:,} {what}: are files, sides and languages right?")
    if one_sided := counts.get("need both sides"):
        parts.append(f"filters not used, because they compare both sides: {', '.join(one_sided)}")
    if counts["idle"]:
        parts.append(f"filters not used, because they do not support these languages: {', '.join(counts['idle'])}")
    return "; ".join(parts)


def _processes(job: Job[CleanConfig], shards: Sequence[Shard]) -> int:
    return max(1, min(job.threads, len(shards), sum(shard.lines for shard in shards) // PROCESS_PAIRS))


def _identity(setting: Setting) -> Any:
    return {key: value for key, value in canonical(setting.config).items() if key not in ("enabled", "order")}


def _training(job: Job[CleanConfig]) -> list[Corpus]:
    corpora = [Corpus(artifact.path) for artifact in job.inputs["corpus"]]
    if corpora and all(corpus.source_only for corpus in corpora):
        return corpora
    training = [corpus for corpus in corpora if all(o.use == "train" for o in corpus.origins.values())]
    if not training:
        raise UserError(f"{job.axis} has no corpus to train on.", "Give one of corpus.sources the use train.")
    return training


def _rules(job: Job[CleanConfig], corpora: Sequence[Corpus]) -> Rules:
    filters = parse(job.config.filters)
    source_only = corpora[0].source_only
    if source_only:  # scores of pairs, such as Bicleaner's, are columns of bilingual corpora alone
        columns = {name for corpus in corpora for name in corpus.columns}
        filters = [
            each for each in filters if not isinstance(each.config, ScoreConfig) or each.config.column in columns
        ]
    for setting in filters:
        if isinstance(setting.config, ScoreConfig):
            _check_column(setting.label, setting.config, corpora)
    duplicates = job.config.duplicates if job.config.duplicates.enabled else None
    if source_only and duplicates:
        duplicates = replace(duplicates, by=SameBy.source)  # the targets are empty
    return Rules(filters, corpora[0].languages, duplicates, job.config.rejects, source_only)


def _check_column(label: str, config: ScoreConfig, corpora: Sequence[Corpus]) -> None:
    """Raise UserError if no corpus has the column, or if some lack it and `unscored` is fail."""
    lacking = [corpus for corpus in corpora if config.column not in corpus.columns]
    if len(lacking) == len(corpora) or (lacking and config.unscored is Unscored.fail):
        names = ", ".join(origin.name for corpus in lacking for origin in corpus.origins.values())
        pair = next(origin.pair for corpus in lacking for origin in corpus.origins.values())
        raise UserError(
            f"clean.filters.{label} needs the column {config.column}, which these corpora of {pair} lack: {names}.",
            f"Existing columns: {', '.join(sorted({name for corpus in lacking for name in corpus.columns}))}.",
        )


def _cleaned(
    job: Job[CleanConfig], rules: Rules, pieces: Sequence[Piece], workers: Workers[Rules]
) -> Iterator[tuple[Piece | None, Tally]]:
    """Yield the numbers of processed pairs, and each piece when it is finished."""
    total = sum(piece.shard.lines for piece in pieces)
    seen = sum(Corpus(artifact.path).pairs for artifact in job.inputs.get("seen", []))
    finder = DuplicateFinder(job.out / WORK, total + seen) if rules.duplicates else None
    tick = partial(job.progress.update, "cleaning", total=total, unit="pairs")
    before = _add_seen(job, finder, workers) if finder is not None else 0
    kept = []
    for piece, (pairs, tally) in zip(pieces, workers.map(filter_piece, pieces, tick), strict=True):
        kept.append(pairs)
        if finder is not None:
            finder.add(piece.keys.read_bytes())
            piece.keys.unlink()
        yield None if finder is not None else piece, tally
    if finder is not None:
        job.progress.update("comparing")
        repeats = _with_verdicts(pieces, kept, finder.find(), before)
        tick = partial(job.progress.update, "removing duplicates", total=sum(kept), unit="pairs")
        yield from zip(pieces, workers.map(drop_repeats, repeats, tick), strict=True)


def _add_seen(job: Job[CleanConfig], finder: DuplicateFinder, workers: Workers[Rules]) -> int:
    """Add the keys of the corpus that this one must not repeat; return their number."""
    shards = [shard for artifact in job.inputs.get("seen", []) for shard in Corpus(artifact.path).shards]
    total = sum(shard.lines for shard in shards)
    tick = partial(job.progress.update, "reading the bilingual sources", total=total, unit="pairs")
    for keys in workers.map(source_keys, shards, tick) if shards else ():
        finder.add(keys)
    return total


def _with_verdicts(pieces: Sequence[Piece], kept: Sequence[int], verdicts: Verdicts, before: int) -> Iterator[Repeats]:
    """Yield the pieces with the verdicts on their pairs, which are read on demand; `before`: pairs before the first."""
    for piece, first, pairs in zip(pieces, accumulate(kept, initial=before), kept, strict=False):
        yield Repeats(piece, verdicts.of(first, pairs))


def _verify(corpus: Corpus, shard: Shard, tick: Tick) -> None:
    shard.verify(corpus.origins, corpus.groups_kept)
    tick(shard.lines)


def _counts(tally: Tally, rules: Rules, origins: Mapping[int, Origin]) -> dict[str, Any]:
    """Return the counts by filter, and by corpus and filter, including filters that rejected no pair."""
    made = dict(rules.steps())
    labels = [label for label, each in made.items() if not isinstance(each, Rewriter)] + (
        [DUPLICATES] if rules.duplicates else []
    )
    dropped: Counter[str] = Counter(dict.fromkeys(labels, 0))
    corpora = {}
    for prefix, origin in origins.items():
        by_filter = {label: tally.dropped[prefix, label] for label in labels}
        dropped.update(by_filter)
        left = tally.read[prefix] - sum(by_filter.values())
        corpora[origin.name] = {"pairs in": tally.read[prefix], "pairs out": left, "dropped": by_filter}
    return {
        "in": tally.read.total(),
        "dropped": dropped,
        "corpora": corpora,
        "rewritten": {label: tally.rewritten[label] for label, each in made.items() if isinstance(each, Rewriter)},
        "suspicious": [label for label, each in made.items() if each.kind in MISTAKEN],
        "idle": {label: each.idle for label, each in made.items() if each.idle},
        **({"need both sides": rules.left_out()} if rules.source_only else {}),
    }
