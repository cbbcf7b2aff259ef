"""The stage vocabulary: what it leaves reads text and gives it back, whatever its first sentence looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.config import VocabularyConfig
from kd.corpora.ids import Origin
from kd.corpora.shards import CorpusWriter
from kd.pipeline.contract import Artifact, Job
from kd.pipeline.progress import Progress
from kd.stages.vocabulary import TrainVocabulary

CONFIG = VocabularyConfig(
    size=290, model="unigram", character_coverage=1.0, normalization="identity", byte_fallback=True, split_digits=True,
    sample=1000, seed=1,
)  # fmt: skip


@pytest.mark.parametrize("first", ["a house", "\u2581a\u2581house", "</s> a\u2028house\x00 ", "𠀀"])
def test_any_sentence_may_be_the_first(first: str, tmp_path: Path) -> None:
    origin = Origin("de-en", "made_up")
    with CorpusWriter(tmp_path / "corpus", ("de", "en"), 500, origins=[origin]) as writer:
        for pair in origin.number(
            [(first, first), *((f"ein Haus mit {n} Türen", f"some house with {n} doors") for n in range(100))]
        ):
            writer.add(pair)
    out = tmp_path / "out"
    out.mkdir()
    corpora = [Artifact(tmp_path / "corpus", "", "shard.de-en", "all", "", "de-en", {}, {})]
    job = Job(
        name="all", stage="vocabulary", config=CONFIG, identity={}, axis="de-en", axis_value={},
        inputs={"corpora": corpora}, files={}, out=out, kin=[], attempts=1, threads=1, device="cpu", machine={},
        progress=Progress(None),
    )  # fmt: skip
    TrainVocabulary().run(job)
    assert TrainVocabulary().check(job).counts == {"sentences": 202, "pieces": 290}
