"""Generate text and n-best lists for a probe that has no corpora, or whose decoding would take hours."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

from kd.corpora.nbest import Hypothesis, NBestList, NBestShardWriter, member_features, write_nbest_index
from kd.corpora.shards import Corpus
from kd.metrics.selection import Chooser
from kd.metrics.sentence import Candidates
from kd.pipeline.store import folder_bytes
from kd.recipe.schema import SelectConfig


def generated(limit: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Yield pairs of generated words with a Zipf distribution."""
    chosen = random.Random(seed)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(chosen.choices(syllables, k=chosen.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    for _ in range(limit):
        length = max(1, min(100, round(chosen.lognormvariate(2.8, 0.6))))
        source = chosen.choices(words, weights, k=length)
        yield " ".join(source) + ".", " ".join(word[::-1] for word in source) + "."


def made_up_lists(corpus: Corpus, out: Path, nbest: int, members: int) -> tuple[int, int]:
    """Write lists like those of teachers: gold with exchanged words. Return the numbers of hypotheses and bytes."""
    chosen = random.Random(1)
    hypotheses = 0
    for shard in corpus.shards:
        with NBestShardWriter(out, shard.name) as writer:
            for group in shard.groups():
                words = group[0].target.split() or ["-"]
                entries = []
                for rank in range(nbest):
                    kept = [chosen.choice(words) if rank and chosen.random() < 0.15 else word for word in words]
                    scores = [-0.3 - 0.1 * rank - chosen.random() / 10 for _ in range(members)]
                    score = -0.3 - 0.1 * rank
                    pieces = " ".join("\u2581" + word for word in kept)
                    entries.append(Hypothesis(" ".join(kept), member_features(scores), score, pieces))
                writer.add(NBestList(group[0].id, entries))
                hypotheses += nbest
    write_nbest_index(out, {"scores": "made up", "members": members, "length_penalty": 1.0})
    return hypotheses, folder_bytes(out)


def warm_up(config: SelectConfig) -> None:
    """Compile, ahead of the measurement, the functions that selection compiles at first use."""
    lists = [Candidates(["a b c d", "a b c e"], "a b c d", [-0.1, -0.2])]
    with contextlib.suppress(Exception):
        Chooser(config).choose(lists, ["a b c d"])
