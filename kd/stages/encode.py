"""Encode: text to the numbers that fairseq trains on, in its memory-mapped format.

The same kind encodes the gold corpus for the teachers and what was selected for the student.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kd.config import BalanceMethod, CorpusConfig, EncodeConfig, Use
from kd.corpora.heldout import read_heldout
from kd.corpora.ids import Pair
from kd.corpora.joined import read_joined
from kd.corpora.shards import Corpus
from kd.engines.segmentation import Sampling
from kd.engines.vocabulary import DICTIONARY, MODEL
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Draft, Job, Kind, Role, Summary
from kd.pipeline.fingerprint import identity_and_extent
from kd.pipeline.plan import Stage, unknown

if TYPE_CHECKING:
    from kd.engines.fairseq.encoding import Encoded
    from kd.engines.fairseq.epochs import Balanced

COUNTS = "counts.json"
_SETTINGS_OF = {
    BalanceMethod.temperature: ("temperature",),
    BalanceMethod.unimax: ("budget", "max_epochs"),
    BalanceMethod.weights: ("weights",),
}
SIDES = ("source", "target")


class Encode(Kind[EncodeConfig]):
    """Makes a data folder for `fairseq-train`; of a large corpus several, which it reads as epochs."""

    name = "encode"
    version = 2
    config = EncodeConfig
    roles: ClassVar = {"corpus": Role(many=True), "held_out": Role(), "vocabulary": Role()}
    resources = "cpu"

    def validate(self, config: EncodeConfig) -> None:
        """The numbers are possible, alone and together."""
        sampling = config.sampling
        if not 0 <= sampling.alpha <= 1:
            raise UserError(f"encode.sampling.alpha is {sampling.alpha}.", "Set it between 0 (off) and 1.")
        if sampling.nbest < 2:
            raise UserError(f"encode.sampling.nbest is {sampling.nbest}.", "Set it to 2 or more.")
        for name in ("max_pieces", "folder_pairs", "passes"):
            if getattr(config, name) < 1:
                raise UserError(f"encode.{name} is {getattr(config, name)}.", "It must be at least 1.")
        _check_balance(config)
        if config.corpora is not None and not any(config.corpora.values()):
            raise UserError("No corpus is named to train on.", "Name one of corpus.sources: +in_domain.NAME=true.")
        if config.passes > 1 and not sampling.alpha:
            raise UserError(
                f"encode.passes is {config.passes}, and without sampling each pass would be the same.",
                "Set encode.sampling.alpha above 0, or encode.passes to 1.",
            )

    def tasks(self, stage: Stage) -> Iterator[Draft]:
        """A single one; the settings of sampling count only where it is on."""
        identity, extent = identity_and_extent(stage.config)
        if not stage.config.sampling.alpha:
            identity.pop("sampling", None)
        identity.pop("balance", None)  # of which only what its method reads says anything
        balance = stage.config.balance
        if balance.method is not BalanceMethod.proportional and stage.axis is None:
            settings = {name: getattr(balance, name) for name in _SETTINGS_OF[balance.method]}
            identity["balance"] = {"method": balance.method.value, **settings}
        if stage.config.corpora is not None:
            identity["corpora"] = sorted(_check_corpora(stage))
        yield Draft("all", identity, extent)

    def run(self, job: Job[EncodeConfig]) -> None:
        """Writes the binary files, the dictionaries and a copy of the vocabulary."""
        from kd.engines.fairseq.binary import data_prefix
        from kd.engines.fairseq.encoding import Encoding, encode_corpora, encode_pairs
        from kd.engines.fairseq.epochs import encode_balanced

        folder = _copy_vocabulary(job)
        corpora, config = _corpora(job), job.config
        # A model for several language pairs is validated on all of them.
        origins = (origin.pair for corpus in corpora for origin in corpus.origins.values())
        axes = [job.axis] if job.axis else dict.fromkeys(origins)
        dev = chain.from_iterable(read_heldout(job.one("held_out").path, axis, "dev") for axis in axes)
        prefixes = [data_prefix(job.out, "valid", side) for side in SIDES]
        valid = encode_pairs(map(_sides, dev), prefixes, Encoding(folder, config.max_pieces))
        if not valid.pairs:
            raise UserError("No dev pair is short enough to validate on.", "Raise encode.max_pieces.")
        total = sum(corpus.pairs for corpus in corpora) * config.passes
        encoding = Encoding(folder, config.max_pieces, _sampling(config), _prefixes(corpora, config))
        settings: dict[str, Any] = {
            "workers": job.threads,
            "progress": lambda done: job.progress.update("encoding", done, total, "pairs"),
        }
        balanced: dict[str, Balanced] = {}
        groups = _by_pair(job)
        if config.balance.method is BalanceMethod.proportional or len(groups) == 1:
            settings |= {"folder_pairs": config.folder_pairs, "passes": config.passes}
            train = encode_corpora(corpora, job.out, encoding, **settings)
        else:
            settings |= {"epoch_pairs": config.folder_pairs}
            train, balanced = encode_balanced(groups, job.out, encoding, config.balance, **settings)
        if not train or not all(encoded.pairs for encoded in train):
            of = f" of {', '.join(_wanted(config.corpora))}" if config.corpora else ""
            raise UserError(f"No pair{of} is short enough to train on.", "Raise encode.max_pieces.")
        _write_counts(job.out, total, train, valid, balanced)

    def check(self, job: Job[EncodeConfig]) -> Summary:
        """Compares the number of sentences on both sides, in each folder, with what was counted."""
        from kd.engines.fairseq.binary import IndexedReader, data_folders, data_prefix

        counts = json.loads((job.out / COUNTS).read_text("utf-8"))
        train, valid = counts["train"], counts["valid"]
        folders = data_folders(job.out)
        if len(folders) != len(train):
            raise IncompleteArtifact(f"{job.out} holds {len(folders)} of {len(train)} folders.")
        parts = zip(folders, repeat("train"), train, strict=False)
        for folder, split, encoded in ((job.out, "valid", valid), *parts):
            for side in SIDES:
                reader = IndexedReader(data_prefix(folder, split, side))
                if (len(reader), reader.pieces) != (encoded["pairs"], encoded[side]):
                    raise IncompleteArtifact(f"{data_prefix(folder, split, side)} holds {len(reader)} sentences.")
        sums = {name: sum(encoded[name] for encoded in train) for name in train[0]}
        numbers = {"pairs in": counts["in"], "pairs out": sums["pairs"], "source pieces": sums["source"],
                   "target pieces": sums["target"], "dev pairs": valid["pairs"], "folders": len(train)}  # fmt: skip
        if not counts["balance"]:
            others = {"of other corpora": sums["others"]} if sums.get("others") else {}
            return Summary(numbers, {"too many pieces": sums["too_long"], **others})
        balance = counts["balance"]
        numbers["pairs out"] = sum(each["pairs"] for each in balance.values())  # each once, however often it is drawn
        too_long = sum(each["too_long"] for each in balance.values())
        facts = {"balance": balance, "note": _balance_note(balance, len(train))}
        return Summary({**numbers, "pairs drawn": sums["pairs"]}, {"too many pieces": too_long}, facts)


def _wanted(corpora: Mapping[str, bool]) -> list[str]:
    return [name for name, wanted in corpora.items() if wanted]


def _check_corpora(stage: Stage) -> list[str]:
    """The names of the corpora to encode, all of which the recipe trains on."""
    collected = [other.config.sources for other in stage.upstream() if isinstance(other.config, CorpusConfig)]
    known = {name for sources in collected for name, source in sources.items() if source.use is Use.train}
    wanted = _wanted(stage.config.corpora)
    for name in wanted:
        if name not in known:
            raise unknown(f"training corpus (named by chain.{stage.entry.name}.changes.corpora)", name, known)
    return wanted


def _prefixes(corpora: Iterable[Corpus], config: EncodeConfig) -> frozenset[int] | None:
    if config.corpora is None:
        return None
    origins = chain.from_iterable(corpus.origins.values() for corpus in corpora)
    return frozenset(origin.prefix for origin in origins if config.corpora.get(origin.name))


def _check_balance(config: EncodeConfig) -> None:
    balance = config.balance
    if balance.temperature <= 0:
        raise UserError(f"encode.balance.temperature is {balance.temperature}.", "It must be above 0.")
    if balance.method is BalanceMethod.unimax and (balance.budget < 1 or balance.max_epochs <= 0):
        raise UserError(
            f"encode.balance.budget is {balance.budget} and max_epochs is {balance.max_epochs}.",
            "UniMax wants both above 0: the target pieces of the whole training (student.max_update times "
            "student.batch.target_tokens), and how often a language is seen at most.",
        )
    if balance.method is BalanceMethod.weights and any(weight <= 0 for weight in balance.weights.values()):
        raise UserError("A weight of encode.balance.weights is not above 0.", "Leave the language pair out instead.")
    if balance.method is not BalanceMethod.proportional and config.passes > 1:
        raise UserError(
            f"encode.passes is {config.passes} and encode.balance.method is {balance.method.value}.",
            "Balanced corpora are encoded once: set encode.passes to 1.",
        )


def _copy_vocabulary(job: Job[EncodeConfig]) -> Path:
    """Puts it beside the numbers that it gives meaning to, under fairseq's names as well; returns its folder."""
    folder = job.one("vocabulary").path
    for name in ("dict.source.txt", "dict.target.txt"):
        shutil.copyfile(folder / DICTIONARY, job.out / name)
    for name in (MODEL, DICTIONARY):
        shutil.copyfile(folder / name, job.out / name)
    return folder


def _corpora(job: Job[EncodeConfig]) -> list[Corpus]:
    """The tasks of a stage as one corpus; several stages, such as those of several language pairs, as several."""
    return [corpus for corpora in _by_pair(job).values() for corpus in corpora]


def _by_pair(job: Job[EncodeConfig]) -> dict[str, list[Corpus]]:
    """The corpora of each language pair; what has none stands under its stage's name."""
    folders: dict[str, dict[str, list[Path]]] = {}
    for artifact in job.inputs["corpus"]:
        parts = {pair: corpus.folder for pair, corpus in read_joined(artifact.path).items()}
        for pair, path in (parts or {artifact.axis or artifact.stage: artifact.path}).items():
            folders.setdefault(pair, {}).setdefault(artifact.stage, []).append(path)
    return {pair: [Corpus.join(paths) for paths in stages.values()] for pair, stages in folders.items()}


def _balance_note(balance: Mapping[str, Mapping[str, float]], folders: int) -> str:
    told = ", ".join(
        f"{pair} {each['token_share']:.1%} of tokens ({each['repetitions']:.2f} times)"
        for pair, each in balance.items()
    )
    return f"a round of {folders} virtual epochs: {told}"


def _sampling(config: EncodeConfig) -> Sampling | None:
    sampling = config.sampling
    return Sampling(sampling.alpha, sampling.nbest, sampling.seed) if sampling.alpha else None


def _sides(pair: Pair) -> tuple[str, str]:
    return pair.source, pair.target


def _write_counts(
    out: Path, total: int, train: list[Encoded], valid: Encoded, balanced: Mapping[str, Balanced]
) -> None:
    counts = {"in": total, "train": [asdict(encoded) for encoded in train], "valid": asdict(valid)}
    counts["balance"] = {group: asdict(each) for group, each in balanced.items()}
    (out / COUNTS).write_text(json.dumps(counts), "utf-8")
