"""The stage vocabulary: its settings reach what it trains, and what text may hold does not keep it from its end."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.base.progress import Progress
from kd.corpora.ids import Origin
from kd.corpora.shards import CorpusWriter
from kd.models.files import PIECES
from kd.pipeline.model import Artifact, Job, Summary
from kd.recipe.schema import VocabularyConfig
from kd.stages import vocabulary as stage
from kd.stages.vocabulary import TrainVocabulary

WORDS = ["house", "tree", "river", "stone", "light", "window", "garden", "people", "mountain", "silver", "bridge"]
SETTINGS = {
    "size": 290, "model": "unigram", "character_coverage": 1.0, "normalization": "identity", "byte_fallback": True,
    "split_digits": True, "sample": 1000, "seed": 1,
}  # fmt: skip


def sentences(number: int, ending: str, seed: int) -> list[tuple[str, str]]:
    """Made-up pairs; what is written backwards is the other language."""
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=8)) for _ in range(number)]
    return [(text + ending, text[::-1] + ending) for text in texts]


def trained(
    folder: Path, texts: Mapping[str, list[tuple[str, str]]], **changes: Any
) -> tuple[set[str], Summary, Job[VocabularyConfig]]:
    """The pieces that the stage leaves."""
    artifacts = []
    for name, pairs in texts.items():
        source, target = name.split("-")
        origin = Origin(name, "made_up")
        with CorpusWriter(folder / name, (source, target), 1000, origins=[origin]) as writer:
            for pair in origin.number(pairs):
                writer.add(pair)
        artifacts.append(Artifact(folder / name, "shard", f"shard.{name}", "all", "f", name, {}, {}))
    config = VocabularyConfig(**{**SETTINGS, **changes})
    TrainVocabulary().validate(config)
    job: Job[VocabularyConfig] = Job(
        "all", "vocabulary", config, {}, None, {}, {"corpora": artifacts}, {}, folder / "out", [], 1, 1, "cpu", {},
        Progress(None),
    )  # fmt: skip
    job.out.mkdir()
    TrainVocabulary().run(job)
    pieces = (job.out / PIECES).read_text("utf-8").split("\n")
    return {line.split("\t")[0] for line in pieces}, TrainVocabulary().check(job), job


@pytest.mark.parametrize("first", ["a house", "\u2581a\u2581house \u2582", "</s> a\u2028house\x00 ", "𠀀"])
def test_any_sentence_may_be_the_first_and_is_read_back(first: str, tmp_path: Path) -> None:
    _, summary, _ = trained(tmp_path, {"en-xx": [(first, first), *sentences(300, "", 1)]})
    assert summary.counts == {"sentences": 602, "pieces": 290}


def test_the_most_frequent_placeholders_are_symbols(tmp_path: Path) -> None:
    texts = {"en-xx": sentences(200, " {name}", 1) + sentences(100, " {rare}", 2)}
    pieces, _, _ = trained(tmp_path, texts, placeholders=r"\{\w+\}", max_placeholders=1, tags=True)
    assert {"{name}", "<2xx>"} <= pieces
    assert "{rare}" not in pieces


@pytest.mark.parametrize(("exponent", "shares"), [(0.0, [100, 100, 100]), (1.0, [37, 112, 151])])
def test_languages_have_the_shares_that_the_exponent_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exponent: float, shares: list[int]
) -> None:
    seen: list[str] = []

    def train(given: Any, *_: Any) -> None:
        seen.extend(given)
        raise UserError("enough")

    monkeypatch.setattr(stage, "train", train)
    texts = {"aa-xx": [("a", "x")] * 200, "bb-xx": [("b", "x")] * 600}
    with pytest.raises(UserError, match="enough"):
        trained(tmp_path, texts, sample=300, language_exponent=exponent)
    assert [seen.count(text) for text in "abx"] == shares
