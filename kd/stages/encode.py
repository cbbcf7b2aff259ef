"""Encode: convert text to token ids, in fairseq's memory-mapped format.

The same kind encodes the gold corpus for the teachers and the selected text for the student.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kd.base.errors import IncompleteArtifact, UserError
from kd.base.text import unknown_name
from kd.corpora.balance import check_weights
from kd.corpora.heldout import read_heldout
from kd.corpora.ids import Pair
from kd.corpora.index import write_json
from kd.corpora.joined import read_joined
from kd.corpora.shards import Corpus, target_columns
from kd.models.description import Languages
from kd.models.files import DICTIONARY, LANGUAGES, SOURCE_DICTIONARY, TARGET_DICTIONARY, VOCABULARY
from kd.models.known import Known, equal_tasks
from kd.models.segmentation import Sampling
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.forecast import StageForecast, TaskWork, Work
from kd.pipeline.model import Job, Kind, Role, Stage, Summary, TaskSpec
from kd.recipe.schema import BalanceMethod, CorpusConfig, EncodeConfig, SelectConfig, Use, Variant
from kd.stages.source_only import check_tops, source_only_facts

if TYPE_CHECKING:
    from kd.engines.fairseq.encoding import Encoded, Encoding
    from kd.engines.fairseq.epochs import Balanced

COUNTS = "counts.json"
_SETTINGS_OF = {
    BalanceMethod.temperature: ("temperature",),
    BalanceMethod.unimax: ("budget", "max_epochs"),
    BalanceMethod.weights: ("weights",),
}
SIDES = ("source", "target")


class Encode(Kind[EncodeConfig]):
    """Make a data folder for `fairseq-train`, or several for a large corpus, which are read as epochs."""

    name = "encode"
    version = 2
    config = EncodeConfig
    roles: ClassVar = {"corpus": Role(many=True), "held_out": Role(), "vocabulary": Role()}
    resources = "cpu"

    def validate(self, config: EncodeConfig) -> None:
        """Raise UserError for settings that contradict each other."""
        _check_balance(config)
        if config.corpora is not None and not any(config.corpora.values()):
            raise UserError("No training corpus is named.", "Name one of corpus.sources: +in_domain.NAME=true.")
        if config.passes > 1 and not config.sampling.alpha:
            raise UserError(
                f"encode.passes is {config.passes}, but without sampling all passes would be the same.",
                "Set encode.sampling.alpha above 0, or encode.passes to 1.",
            )

    def tasks(self, stage: Stage) -> Iterator[TaskSpec]:
        """Yield one task; the settings of sampling count only if it is on."""
        identity, extent = identity_and_extent(stage.config)
        if not stage.config.sampling.alpha:
            identity.pop("sampling", None)
        identity.pop("balance", None)  # replaced by the settings that its method uses
        balance = stage.config.balance
        if balance.method is not BalanceMethod.proportional and stage.axis is None:
            settings = {name: getattr(balance, name) for name in _SETTINGS_OF[balance.method]}
            identity["balance"] = {"method": balance.method.value, **settings}
        if stage.config.corpora is not None:
            identity["corpora"] = sorted(_check_corpora(stage))
        if len(_pairs(stage)) > 1:
            identity["records"] = "language pairs"  # of each sentence; earlier artifacts lack them
        if stage.axis is None:
            _check_targets(stage)
            _check_weights(stage)
        _check_top(stage)
        check_tops(stage, {_top(other) for _, other in stage.inputs.get("corpus", [])})
        _check_vocabulary(stage)
        yield TaskSpec("all", identity, extent)

    def run(self, job: Job[EncodeConfig]) -> None:
        """Write the binary files, the dictionaries and a copy of the vocabulary."""
        from kd.engines.fairseq.binary import data_prefix
        from kd.engines.fairseq.encoding import Encoding, encode_pairs

        folder = _copy_vocabulary(job)
        config, groups = job.config, _by_pair(job)
        _write_languages(job, groups)
        prefixes = [data_prefix(job.out, "valid", side) for side in SIDES]
        valid = encode_pairs(_dev(job, groups), prefixes, Encoding(folder, config.max_pieces, tags=config.tags))
        if not valid.pairs and not valid.too_long:
            raise UserError("There is no dev set for validation.", "Set split.dev above 0, or set a corpus' use=dev.")
        if not valid.pairs:
            raise UserError("No dev pair is short enough.", "Raise encode.max_pieces.")
        corpora = [corpus for each in groups.values() for corpus in each]
        total = sum(corpus.pairs for corpus in corpora) * _passes(config, _targets_of(corpora))
        encoding = Encoding(
            folder,
            config.max_pieces,
            sampling=_sampling(config),
            wanted=_prefixes(corpora, config),
            tags=config.tags,
        )
        train, balanced, source_only = _encode_train(job, groups, encoding, total)
        if not train or not all(encoded.pairs for encoded in train):
            of = f" of {', '.join(_wanted(config.corpora))}" if config.corpora else ""
            raise UserError(f"No pair{of} is short enough to train on.", "Raise encode.max_pieces.")
        _write_counts(job.out, total, train, valid, balanced, source_only)

    def check(self, job: Job[EncodeConfig]) -> Summary:
        """Compare the numbers of sentences on both sides of each folder with the counts."""
        from kd.engines.fairseq.binary import IndexedReader, data_folders, data_prefix

        counts = json.loads((job.out / COUNTS).read_text("utf-8"))
        train, valid = counts["train"], counts["valid"]
        folders = data_folders(job.out)
        if len(folders) != len(train):
            raise IncompleteArtifact(f"{job.out} has {len(folders)} of {len(train)} folders.")
        parts = zip(folders, repeat("train"), train, strict=False)
        for folder, split, encoded in ((job.out, "valid", valid), *parts):
            for side in SIDES:
                reader = IndexedReader(data_prefix(folder, split, side))
                if (len(reader), reader.pieces) != (encoded["pairs"], encoded[side]):
                    raise IncompleteArtifact(f"{data_prefix(folder, split, side)} holds {len(reader)} sentences.")
        sums = {name: sum(encoded[name] for encoded in train) for name in train[0]}
        numbers = {"pairs in": counts["in"], "pairs out": sums["pairs"], "source pieces": sums["source"],
                   "target pieces": sums["target"], "dev pairs": valid["pairs"], "folders": len(train)}  # fmt: skip
        others = {"of other corpora": sums["others"]} if sums.get("others") else {}
        balance = counts["balance"]
        if not balance or job.config.balance.method is BalanceMethod.proportional:
            facts = {"balance": balance, "note": f"an epoch: {_shares(balance)}"} if balance else {}
            if "source_only" in counts:
                facts |= source_only_facts(counts["source_only"], sums)
            return Summary(numbers, {"too many pieces": sums["too_long"], **others}, facts)
        numbers["pairs out"] = sum(each["pairs"] for each in balance.values())  # each once, however often it is drawn
        too_long = sum(each["too_long"] for each in balance.values())
        facts = {"balance": balance, "note": f"a round of {len(train)} virtual epochs: {_shares(balance)}"}
        return Summary({**numbers, "pairs drawn": sums["pairs"]}, {"too many pieces": too_long, **others}, facts)

    def forecast(self, stage: Stage, known: Known) -> StageForecast:
        """Forecast the work by the pairs read in each pass."""
        text = known.input(stage, "corpus")
        text = replace(text, pairs=text.pairs.times(_passes(stage.config, _top(stage))))
        work = Work(self.name, "pairs", text.pairs, text.pair_bytes.value)
        return equal_tasks(stage, TaskWork((work,)), text)


def _wanted(corpora: Mapping[str, bool]) -> list[str]:
    return [name for name, wanted in corpora.items() if wanted]


def _check_corpora(stage: Stage) -> list[str]:
    """Return the names of the corpora to encode. Raise UserError unless all are training corpora."""
    collected = [other.config.sources for other in stage.upstream() if isinstance(other.config, CorpusConfig)]
    known = {name for sources in collected for name, source in sources.items() if source.use is Use.train}
    wanted = _wanted(stage.config.corpora)
    for name in wanted:
        if name not in known:
            raise unknown_name(f"training corpus (named by chain.{stage.spec.name}.changes.corpora)", name, known)
    return wanted


def _prefixes(corpora: Iterable[Corpus], config: EncodeConfig) -> frozenset[int] | None:
    if config.corpora is None:
        return None
    origins = (origin for corpus in corpora for origin in corpus.origins.values())
    return frozenset(origin.prefix for origin in origins if config.corpora.get(origin.name))


def _check_balance(config: EncodeConfig) -> None:
    balance = config.balance
    if balance.method is BalanceMethod.unimax and not balance.budget:
        raise UserError(
            "encode.balance.budget is 0, but encode.balance.method is unimax.",
            "Set it to the target tokens of the whole training: student.max_update times student.batch.target_tokens.",
        )
    if balance.method is BalanceMethod.weights and any(weight <= 0 for weight in balance.weights.values()):
        raise UserError(
            "A weight of encode.balance.weights is not above 0.", "Set it above 0, or leave the language pair out."
        )
    if balance.method is not BalanceMethod.proportional and config.passes > 1:
        raise UserError(
            f"encode.passes is {config.passes} but encode.balance.method is {balance.method.value}.",
            "Balanced corpora are encoded once: set encode.passes to 1.",
        )


def _copy_vocabulary(job: Job[EncodeConfig]) -> Path:
    """Copy the vocabulary beside the data, under fairseq's names as well; return its folder."""
    folder = job.one("vocabulary").path
    for name in (SOURCE_DICTIONARY, TARGET_DICTIONARY):
        shutil.copyfile(folder / DICTIONARY, job.out / name)
    for name in (VOCABULARY, DICTIONARY):
        shutil.copyfile(folder / name, job.out / name)
    return folder


def _by_pair(job: Job[EncodeConfig]) -> dict[str, list[Corpus]]:
    """Return the corpora by language pair, joining the tasks of a stage; without a pair, by the stage's name."""
    folders: dict[str, dict[str, list[Path]]] = {}
    for artifact in job.inputs["corpus"]:
        parts = {pair: corpus.folder for pair, corpus in read_joined(artifact.path).items()}
        for pair, path in (parts or {artifact.axis or artifact.stage: artifact.path}).items():
            folders.setdefault(pair, {}).setdefault(artifact.stage, []).append(path)
    return {pair: [Corpus.join(paths) for paths in stages.values()] for pair, stages in folders.items()}


def _targets(stage: Stage, role: str) -> list[str]:
    """Return the target languages of a stage's input, as far as the plan states them."""
    values = [value for _, corpus in stage.inputs.get(role, []) for value in corpus.axis_values().values()]
    return list(dict.fromkeys(str(value["target"]) for value in values))


def _check_targets(stage: Stage) -> None:
    """Raise UserError for several target languages without tags."""
    targets = _targets(stage, "corpus")
    config: EncodeConfig = stage.config
    if len(targets) > 1 and not config.tags:
        raise UserError(
            f"{stage.name} has several target languages ({', '.join(targets)}) and no tags to choose one by.",
            f"Set chain.{stage.spec.name}.changes.tags and vocabulary.tags to true.",
        )


def _check_weights(stage: Stage) -> None:
    """Raise UserError if weights are given but not for every language pair."""
    groups = _pairs(stage)
    if stage.config.balance.method is BalanceMethod.weights and len(groups) > 1:
        check_weights(stage.config.balance.weights, groups)


def _pairs(stage: Stage) -> set[str]:
    """Return the language pairs of a stage's corpora; empty if the plan does not state all of them."""
    pairs = [set(corpus.axis_values()) for _, corpus in stage.inputs.get("corpus", [])]
    return set().union(*pairs) if all(pairs) else set()


def _top(stage: Stage) -> int:
    """Return the number of targets per source of a stage, as far as the plan states it."""
    if isinstance(stage.config, SelectConfig):
        return int(stage.config.top) if stage.config.variant is Variant.top else 1
    inputs = [other for role in ("corpus", "corpora") for _, other in stage.inputs.get(role, [])]
    return max(map(_top, inputs), default=1)


def _check_top(stage: Stage) -> None:
    """Raise UserError for balanced language pairs with several targets per source."""
    if _top(stage) > 1 and stage.config.balance.method is not BalanceMethod.proportional and stage.axis is None:
        raise UserError(
            f"{stage.name} balances language pairs, but select.variant=top gives each epoch another hypothesis.",
            "Set encode.balance.method=proportional, or select.variant=best.",
        )


def _check_vocabulary(stage: Stage) -> None:
    """Raise UserError if tags are wanted and the vocabulary lacks them."""
    for _, vocabulary in stage.inputs.get("vocabulary", []) if stage.config.tags else []:
        there, wanted = _targets(vocabulary, "corpora"), _targets(stage, "corpus")
        if not vocabulary.config.tags:
            raise UserError(f"{stage.name} needs tags, but its vocabulary has none.", "Set vocabulary.tags=true.")
        if missing := [target for target in wanted if target not in there]:
            raise UserError(
                f"{vocabulary.name} has no tag for {', '.join(missing)}, which {stage.name} needs.",
                f"Let it read the corpora of all pairs: chain.{vocabulary.spec.name}.over=null.",
            )


def _write_languages(job: Job[EncodeConfig], groups: Mapping[str, Sequence[Corpus]]) -> None:
    """Write the languages of data with several language pairs or with tags, which its models need."""
    if job.axis and not job.config.tags:
        return
    pairs = {name: corpora[0].languages for name, corpora in groups.items()}
    source, target = (tuple(dict.fromkeys(languages[side] for languages in pairs.values())) for side in (0, 1))
    write_json(job.out / LANGUAGES, Languages(source, target, job.config.tags, pairs).to_json())


def _dev(
    job: Job[EncodeConfig], groups: Mapping[str, Sequence[Corpus]]
) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """Yield the dev pairs of all language pairs with their target language."""
    corpora = [corpus for corpora in groups.values() for corpus in corpora]
    targets = {origin.pair: corpus.languages[1] for corpus in corpora for origin in corpus.origins.values()}
    for pair in [job.axis] if job.axis else targets:
        target = targets.get(pair, corpora[0].languages[1])
        yield target, map(_sides, read_heldout(job.one("held_out").path, pair, "dev"))


def _encode_train(
    job: Job[EncodeConfig], groups: Mapping[str, Sequence[Corpus]], encoding: Encoding, total: int
) -> tuple[list[Encoded], dict[str, Balanced], Encoded | None]:
    """Encode the training text.

    Returns the counts of each data folder, the share of each of several pairs, and the part of source-only text.
    """
    from kd.engines.fairseq.encoding import Encoded, encode_corpora
    from kd.engines.fairseq.epochs import as_they_are, encode_balanced

    config = job.config
    settings: dict[str, Any] = {
        "workers": job.threads,
        "progress": lambda done: job.progress.update("encoding", done, total, "pairs"),
    }
    if config.balance.method is not BalanceMethod.proportional and len(groups) > 1:
        settings |= {"epoch_pairs": config.folder_pairs}
        return *encode_balanced(groups, job.out, encoding, config.balance, **settings), None
    corpora = [(group, corpus) for group, corpora in groups.items() for corpus in corpora]
    parts = [Encoded() for _ in corpora]
    targets = _targets_of([corpus for _, corpus in corpora])
    passes = _passes(config, targets)
    settings |= {"folder_pairs": config.folder_pairs, "passes": passes, "targets": targets}
    settings |= {"totals": parts}
    if len(groups) > 1:
        settings["pairs"] = [group for group, _ in corpora]
    train = encode_corpora([corpus for _, corpus in corpora], job.out, encoding, **settings)
    totals = {group: Encoded() for group in groups}
    source_only = Encoded()
    for (group, corpus), part in zip(corpora, parts, strict=True):
        totals[group].add(part)
        if corpus.source_only:
            source_only.add(part)
    beside = source_only if any(corpus.source_only for _, corpus in corpora) else None
    return train, as_they_are(totals, passes) if len(groups) > 1 else {}, beside


def _targets_of(corpora: Sequence[Corpus]) -> int:
    """Return the number of targets per source: more than one after `select.variant=top`.

    Raises:
        UserError: The corpora differ in this number.
    """
    found = {sum(column in target_columns(len(corpus.columns)) for column in corpus.columns) for corpus in corpora}
    if len(found) > 1:
        raise UserError(
            f"The corpora have different numbers of targets for each source: {', '.join(map(str, sorted(found)))}.",
            "Select with one value of select.top for all of them.",
        )
    return found.pop()


def _passes(config: EncodeConfig, targets: int) -> int:
    """Return the number of passes over the corpora: at least one per target; only sampling needs more."""
    return max(config.passes, targets)


def _shares(balance: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(
        f"{pair} {each['token_share']:.1%} of tokens ({each['repetitions']:.2f} times)"
        for pair, each in balance.items()
    )


def _sampling(config: EncodeConfig) -> Sampling | None:
    sampling = config.sampling
    return Sampling(sampling.alpha, sampling.nbest, sampling.seed) if sampling.alpha else None


def _sides(pair: Pair) -> tuple[str, str]:
    return pair.source, pair.target


def _write_counts(
    out: Path,
    total: int,
    train: list[Encoded],
    valid: Encoded,
    balanced: Mapping[str, Balanced],
    source_only: Encoded | None,
) -> None:
    counts = {"in": total, "train": [asdict(encoded) for encoded in train], "valid": asdict(valid)}
    counts["balance"] = {group: asdict(each) for group, each in balanced.items()}
    if source_only is not None:
        counts["source_only"] = asdict(source_only)
    (out / COUNTS).write_text(json.dumps(counts), "utf-8")
