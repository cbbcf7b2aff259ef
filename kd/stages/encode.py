"""Encode: text to the numbers that fairseq trains on, in its memory-mapped format.

The same kind encodes the gold corpus for the teachers and what was selected for the student.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar

from kd.config import EncodeConfig
from kd.corpora.heldout import read_heldout
from kd.corpora.ids import Pair
from kd.corpora.shards import Corpus
from kd.engines.fairseq.binary import IndexedReader, IndexedWriter, data_prefix
from kd.engines.vocabulary import DICTIONARY, MODEL, Vocabulary
from kd.errors import IncompleteArtifact, UserError
from kd.pipeline.contract import Job, Kind, Role, Summary

COUNTS = "counts.json"
BATCH = 10_000  # pairs in memory at a time


class Encode(Kind[EncodeConfig]):
    """Makes a data folder for `fairseq-train`."""

    name = "encode"
    version = 1
    config = EncodeConfig
    roles: ClassVar = {"corpus": Role(many=True), "held_out": Role(), "vocabulary": Role()}
    resources = "cpu"

    def run(self, job: Job[EncodeConfig]) -> None:
        """Writes the binary files, the dictionaries and a copy of the vocabulary."""
        folder = job.one("vocabulary").path
        vocabulary = Vocabulary(folder)
        for name in ("dict.source.txt", "dict.target.txt"):
            shutil.copyfile(folder / DICTIONARY, job.out / name)
        for name in (MODEL, DICTIONARY):
            shutil.copyfile(folder / name, job.out / name)
        corpora = _corpora(job)
        total = sum(corpus.pairs for corpus in corpora)
        pairs = job.progress.follow(chain.from_iterable(c.read() for c in corpora), "encoding", total, "pairs")
        train = _write(job.out, "train", pairs, vocabulary, job.config.max_pieces)
        if not train["pairs"]:
            raise UserError("No pair is short enough to train on.", "Raise encode.max_pieces.")
        # A model for several language pairs is validated on all of them.
        origins = (origin.pair for corpus in corpora for origin in corpus.origins.values())
        axes = [job.axis] if job.axis else dict.fromkeys(origins)
        dev = chain.from_iterable(read_heldout(job.one("held_out").path, axis, "dev") for axis in axes)
        valid = _write(job.out, "valid", dev, vocabulary, job.config.max_pieces)
        if not valid["pairs"]:
            raise UserError("No dev pair is short enough to validate on.", "Raise encode.max_pieces.")
        (job.out / COUNTS).write_text(json.dumps({"in": total, "train": train, "valid": valid}), "utf-8")

    def check(self, job: Job[EncodeConfig]) -> Summary:
        """Compares the number of sentences on both sides with what was counted."""
        counts = json.loads((job.out / COUNTS).read_text("utf-8"))
        for split in ("train", "valid"):
            for side in ("source", "target"):
                found = len(IndexedReader(data_prefix(job.out, split, side)))
                if found != counts[split]["pairs"]:
                    raise IncompleteArtifact(f"{data_prefix(job.out, split, side)} holds {found} sentences.")
        train = counts["train"]
        return Summary(
            {"pairs in": counts["in"], "pairs out": train["pairs"], "source pieces": train["source"],
             "target pieces": train["target"], "dev pairs": counts["valid"]["pairs"]},
            {"too many pieces": train["too long"]},
        )  # fmt: skip


def _corpora(job: Job[EncodeConfig]) -> list[Corpus]:
    """The tasks of a stage as one corpus; several stages, such as those of several language pairs, in turn."""
    stages: dict[str, list[Path]] = {}
    for artifact in job.inputs["corpus"]:
        stages.setdefault(artifact.stage, []).append(artifact.path)
    return [Corpus.join(folders) for folders in stages.values()]


def _write(folder: Path, split: str, pairs: Iterable[Pair], vocabulary: Vocabulary, max_pieces: int) -> dict[str, int]:
    """Encodes pairs; those with a side of more than `max_pieces` are left out and counted."""
    too_long = 0
    with (
        IndexedWriter(data_prefix(folder, split, "source"), vocabulary.size) as source,
        IndexedWriter(data_prefix(folder, split, "target"), vocabulary.size) as target,
    ):
        for batch in _batches(pairs):
            left = vocabulary.encode_ids([pair.source for pair in batch])
            right = vocabulary.encode_ids([pair.target for pair in batch])
            fitting = [i for i in range(len(batch)) if max(len(left[i]), len(right[i])) <= max_pieces]
            too_long += len(batch) - len(fitting)
            source.write([left[i] for i in fitting])
            target.write([right[i] for i in fitting])
    return {"pairs": source.sentences, "source": source.pieces, "target": target.pieces, "too long": too_long}


def _batches(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while batch := list(islice(rest, BATCH)):
        yield batch
