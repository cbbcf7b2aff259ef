"""A tiny translation task that models learn in seconds, with its vocabulary, its data and two trained models."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from kd.engines.fairseq import batching, training
from kd.engines.fairseq.average import average
from kd.engines.fairseq.binary import IndexedReader, IndexedWriter
from kd.engines.fairseq.flags import TrainSpec
from kd.models import vocabulary
from kd.recipe.schema import (
    BatchConfig,
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    VocabularyConfig,
)
from tests.older_cpu import older_cpu
from tests.shared_fixtures import made_once

# The task: German number words become English ones, in reverse order. A model that ignores its input
# scores about 0 BLEU.
WORDS = {
    "null": "zero",
    "eins": "one",
    "zwei": "two",
    "drei": "three",
    "vier": "four",
    "fünf": "five",
    "sechs": "six",
    "sieben": "seven",
    "acht": "eight",
    "neun": "nine",
}
MAX_PIECES = 40
UPDATES = 400
EVERY = 100
# KD_TEST_SEED=2 trains other models: it shows which tests depend on the weights of one.
SEED = int(os.environ.get("KD_TEST_SEED", "1"))


def number_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Draw pairs of the task."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = [rng.choice(list(WORDS)) for _ in range(rng.randint(1, 5))]
        pairs.append((" ".join(words) + ".", " ".join(WORDS[word] for word in reversed(words)) + "."))
    return pairs


@dataclass(frozen=True)
class Task:
    """Folders of the tiny task."""

    vocabulary_folder: Path
    data: Path
    train: list[tuple[str, str]]
    dev: list[tuple[str, str]]
    plan: batching.BatchPlan

    @property
    def vocabulary(self) -> vocabulary.Vocabulary:
        return vocabulary.Vocabulary(self.vocabulary_folder)


def write_split(folder: Path, name: str, pairs: list[tuple[str, str]], pieces: vocabulary.Vocabulary) -> None:
    """Write pairs as fairseq data."""
    for column, side in enumerate(("source", "target")):
        with IndexedWriter(folder / f"{name}.source-target.{side}", pieces.size) as writer:
            writer.write(pieces.encode_ids([pair[column] for pair in pairs]))


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Vocabulary and data of the tiny task."""
    train, dev = number_pairs(3000, 1), number_pairs(100, 2)
    root = made_once(tmp_path_factory, "task", lambda folder: _write_task(folder, train, dev))
    data = root / "data"
    sizes = [IndexedReader(data / f"train.source-target.{side}").sizes for side in ("source", "target")]
    plan = batching.plan(*sizes, target_tokens=500, max_tokens=600)
    return Task(root / "vocabulary", data, train, dev, plan)


def _write_task(root: Path, train: list[tuple[str, str]], dev: list[tuple[str, str]]) -> None:
    config = VocabularyConfig(
        size=300,
        model="unigram",
        character_coverage=1.0,
        normalization="identity",
        byte_fallback=True,
        split_digits=True,
        sample=10_000,
        seed=1,
    )
    vocabulary.train((side for pair in train for side in pair), root / "vocabulary", config, ["{name}"])
    pieces = vocabulary.Vocabulary(root / "vocabulary")
    data = root / "data"
    data.mkdir()
    for side in ("source", "target"):
        shutil.copy(root / "vocabulary" / "dict.txt", data / f"dict.{side}.txt")
    write_split(data, "train", train, pieces)
    write_split(data, "valid", dev, pieces)


@pytest.fixture(scope="session")
def spec(task: Task) -> TrainSpec:
    """A training that learns the task in seconds."""
    return TrainSpec(
        config=TrainConfig(
            model=ModelConfig(
                encoder_layers=2,
                decoder_layers=1,
                width=64,
                ffn=128,
                heads=4,
                pre_norm=True,
                dropout=0.1,
                attention_dropout=0.0,
                activation_dropout=0.0,
            ),
            optimizer=OptimizerConfig(learning_rate=5e-3, warmup_updates=60, label_smoothing=0.1),
            batch=BatchConfig(target_tokens=500, max_tokens=600),
            checkpoint=CheckpointConfig(every=EVERY, keep=4, average=2),
            members=1,
            seed=SEED,
            max_update=UPDATES,
            validate_bleu=True,
            log_every=10,
        ),
        data=(task.data,),
        vocabulary=task.vocabulary_folder / "vocabulary.model",
        max_pieces=MAX_PIECES,
        max_tokens=task.plan.max_tokens,
        update_freq=task.plan.update_freq,
        seed=SEED,
    )


@dataclass(frozen=True)
class Trained:
    """A model folder as a training stage leaves it, with the training's result and progress reports."""

    folder: Path
    result: training.TrainingResult
    progress: list[training.TrainingProgress]


def train_model(spec: TrainSpec, task: Task, folder: Path) -> Trained:
    """Train, average and put the vocabulary beside the model."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: list[training.TrainingProgress] = []
    result = training.train(spec, folder, seen.append, threads=1)
    average(list(result.checkpoints[: spec.config.checkpoint.average]), folder / "model.pt")
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(task.vocabulary_folder / name, folder / name)
    return Trained(folder, result, seen)


@pytest.fixture(scope="session")
def trained(spec: TrainSpec, task: Task, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that has learnt the task."""

    def train(folder: Path) -> None:
        with older_cpu():
            made = train_model(spec, task, folder / "model")
        (folder / "trained.pickle").write_bytes(pickle.dumps(made))

    folder = made_once(tmp_path_factory, "trained", train)
    found: Trained = pickle.loads((folder / "trained.pickle").read_bytes())
    return found


@pytest.fixture(scope="session")
def second(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another, weaker model of the same shape: an earlier checkpoint of the same training."""
    folder = tmp_path_factory.mktemp("models") / "second"
    folder.mkdir()
    average([trained.result.checkpoints[-2]], folder / "model.pt")
    for name in ("dict.txt", "vocabulary.model"):
        shutil.copy(trained.folder / name, folder / name)
    return folder
