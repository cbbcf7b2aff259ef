"""Word-level distillation: the loss, its trainings on the fly and from stored distributions, and how they resume."""

from __future__ import annotations

import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kd.base.errors import IncompleteArtifact
from kd.engines.fairseq import training
from kd.engines.fairseq.binary import IndexedReader
from kd.engines.fairseq.distributions import FolderDistributions
from kd.engines.fairseq.flags import TrainSpec, arguments, readable
from kd.engines.fairseq.model import load_models
from kd.engines.fairseq.soften import Softener, Softening, is_done, parts
from kd.engines.fairseq.start import prepare_start, start_files
from kd.recipe.schema import DistillConfig, Precision
from tests.engines.test_fairseq_training import assert_equal_states, run_and_kill, train_lines, without_time
from tests.tiny_model import Task, Trained

PAD, EOS = 1, 2


def reference_loss(
    student: np.ndarray, teachers: list[np.ndarray], target: np.ndarray, *, alpha: float, temperature: float,
    top: int, smoothing: float, drop_rest: bool = False
) -> float:  # fmt: skip
    """The loss of Kim and Rush (2016), section 3.1, with an ensemble, in plain loops over positions and tokens.

    Args:
        student: Logits, [sentences, width, vocabulary].
        teachers: Logits of each member, of the same shape.
        target: Labels, [sentences, width].
        alpha: Weight of the teachers.
        temperature: Of both sides.
        top: Tokens of the teachers' distribution that are kept; 0: all.
        drop_rest: Scale the kept probabilities to 1, instead of sharing the rest among the other tokens.
        smoothing: Of the labels, shared out over the whole vocabulary as in fairseq.
    """

    def softmax(logits: Any, divisor: float) -> list[float]:
        powers = [math.exp(float(value) / divisor) for value in logits]
        return [power / sum(powers) for power in powers]

    total = 0.0
    for sentence, position in np.ndindex(*target.shape):
        label = int(target[sentence, position])
        if label == PAD:
            continue
        own = softmax(student[sentence, position], 1.0)
        size = len(own)
        spread = smoothing / (size - 1)
        hard = -(1 - smoothing - spread) * math.log(own[label]) - sum(spread * math.log(value) for value in own)
        members = [softmax(logits[sentence, position], temperature) for logits in teachers]
        mean = [sum(values) / len(members) for values in zip(*members, strict=True)]
        kept = sorted(range(size), key=lambda token: -mean[token])[: top or size]
        mass = sum(mean[token] for token in kept)
        tempered = softmax(student[sentence, position], temperature)
        if drop_rest:
            aim = {token: mean[token] / mass for token in kept}
        else:
            aim = {token: mean[token] if token in kept else (1 - mass) / (size - top) for token in range(size)}
        soft = -sum(probability * math.log(tempered[token]) for token, probability in aim.items())
        total += (1 - alpha) * hard + alpha * temperature**2 * soft
    return total


class Fixed:
    """A model that answers with given logits, whatever its input."""

    training = True

    def __init__(self, logits: Any) -> None:
        import torch

        self.logits = torch.tensor(logits)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def __call__(self, **_: Any) -> Any:
        return self.logits, {}

    def parameters(self) -> Any:
        return iter([self.weight])

    def to(self, *_: Any) -> Fixed:
        return self

    def get_normalized_probs(self, output: Any, log_probs: bool) -> Any:
        return output[0].log_softmax(-1)

    def get_targets(self, sample: Any, _: Any) -> Any:
        return sample["target"]


def criterion(monkeypatch: pytest.MonkeyPatch, teachers: list[Fixed], **distill: Any) -> Any:
    """The criterion with these teachers, in front of a task that has a padding symbol."""
    from kd.engines.fairseq import compat, model

    compat.install()
    from kd.engines.fairseq.criterion import WordLevel

    waiting = iter(teachers)
    monkeypatch.setattr(model, "load_teacher", lambda *_: next(waiting))
    dictionary = SimpleNamespace(pad=lambda: PAD)
    task = SimpleNamespace(target_dictionary=dictionary, source_dictionary=dictionary, train_step=lambda **_: None)
    settings = {
        "alpha": 0.5, "end_alpha": 0.5, "end_updates": 0, "temperature": 1.0, "top": 0, "drop_rest": False, **distill
    }  # fmt: skip
    named = {f"distill_{key}": value for key, value in settings.items()}
    cfg = SimpleNamespace(
        sentence_avg=False, label_smoothing=0.1, ignore_prefix_size=0, report_accuracy=False,
        distill_teachers=":".join("t" * len(teachers)), distill_stored="", **named,
    )  # fmt: skip
    return WordLevel(cfg, task)


@pytest.mark.parametrize(
    ("alpha", "temperature", "top", "drop_rest"),
    [
        (0.5, 1.0, 0, False),
        (0.3, 2.0, 0, False),
        (0.9, 1.0, 3, False),
        (1.0, 0.5, 4, False),
        (0.9, 1.0, 3, True),
        (1.0, 0.5, 4, True),
        (0.0, 1.0, 0, False),
    ],
)
def test_the_loss_equals_a_plain_reference(
    monkeypatch: pytest.MonkeyPatch, alpha: float, temperature: float, top: int, drop_rest: bool
) -> None:
    import torch

    rng = np.random.default_rng(7)
    student, *teachers = (rng.normal(0, 2, (3, 5, 11)) for _ in range(4))
    target = rng.integers(EOS, 11, (3, 5))
    target[1, 3:] = target[2, 4:] = PAD
    settings: dict[str, Any] = {"alpha": alpha, "temperature": temperature, "top": top, "drop_rest": drop_rest}
    loss = criterion(monkeypatch, [Fixed(each) for each in teachers], end_alpha=alpha, **settings)
    model = Fixed(student)
    sample = {"net_input": {}, "target": torch.tensor(target), "ntokens": 12}
    found, size, logged = loss(model, sample)
    expected = reference_loss(student, teachers, target, smoothing=0.1, **settings)
    assert float(found) == pytest.approx(expected, abs=1e-5)
    assert size == 12
    assert float(logged["loss"]) == pytest.approx(expected, abs=1e-5)
    model.training = False  # a validation: the label-smoothed cross-entropy alone
    gold = reference_loss(student, teachers, target, alpha=0.0, temperature=1.0, top=0, smoothing=0.1)
    assert float(loss(model, sample)[0]) == pytest.approx(gold, abs=1e-5)


def test_alpha_follows_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = criterion(monkeypatch, [Fixed([[[0.0]]])], alpha=0.8, end_alpha=0.2, end_updates=100)
    found = []
    for update in (0, 50, 100, 1000):
        loss.task.train_step(sample={}, update_num=update)
        found.append(loss.alpha)
    assert found == pytest.approx([0.8, 0.5, 0.2, 0.2])


# --- trainings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teachers(trained: Trained, second: Path) -> tuple[Path, ...]:
    """The checkpoints of an ensemble that has learnt the tiny task."""
    return trained.folder / "model.pt", second / "model.pt"


@pytest.fixture(scope="module")
def taught(spec: TrainSpec, teachers: tuple[Path, ...]) -> TrainSpec:
    """A training of 20 updates with accumulation that learns the teachers' distributions, with a falling weight."""
    config = replace(
        spec.config,
        distill=DistillConfig(alpha=0.8, end_alpha=0.2, end_updates=16, top=8),
        checkpoint=replace(spec.config.checkpoint, every=10, keep=10),
        max_update=20,
        validate_bleu=False,
        log_every=1,
    )
    return replace(spec, config=config, update_freq=2, teachers=teachers)


@pytest.fixture(scope="module")
def stored(task: Task, teachers: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The ensemble's distributions for the training data, as two workers store them."""
    folders = []
    for worker in range(2):
        folder = tmp_path_factory.mktemp("stored")
        softening = softening_of(task, teachers)
        softener = Softener(softening)
        for part in parts(softening, worker, 2, shard=700):
            softener.write(part, folder, lambda _: None)
        folders.append(folder)
    return tuple(folders)


def softening_of(task: Task, teachers: tuple[Path, ...]) -> Softening:
    folders = {"de-en": tuple(path.parent for path in teachers)}
    return Softening(task.data, folders, task.vocabulary_folder / "dict.txt", 8, 1.0, 2000)


def test_the_blocks_hold_the_ensembles_distributions(task: Task, teachers: tuple[Path, ...], stored) -> None:
    """Against each model's own probabilities, one sentence at a time."""
    import torch

    models, dictionary = load_models([path.parent for path in teachers])
    source, target = (IndexedReader(task.data / f"train.source-target.{side}") for side in ("source", "target"))
    rows = FolderDistributions(task.data, task.data, stored)
    for sentence in (0, 699, 700, 1499, 1500, 2999):
        labels = torch.tensor(target[sentence])[None]
        before = torch.cat([torch.tensor([[EOS]]), labels[:, :-1]], 1)
        tokens = torch.tensor(source[sentence])[None]
        with torch.no_grad():
            mean = sum(model(tokens, torch.tensor([tokens.size(1)]), before)[0].softmax(-1) for model in models)[0] / 2
        ids, probabilities = (each[0] for each in rows.batch([sentence], labels.size(1)))
        assert probabilities == pytest.approx(mean.gather(1, torch.tensor(ids)).numpy(), abs=2e-3)
        assert probabilities[:, 0] == pytest.approx(mean.max(1).values.numpy(), abs=2e-3)
        assert len(dictionary) == 300 or ids.max() < len(dictionary)
    padded, zeros = rows.batch([0], 99)
    assert padded.shape == (1, 99, 8)
    assert not zeros[0, target.sizes[0] :].any()


def test_a_block_that_is_damaged_is_found(task: Task, teachers: tuple[Path, ...], stored, tmp_path: Path) -> None:
    shutil.copytree(stored[0], tmp_path / "copy")
    softening = softening_of(task, teachers)
    todo = parts(softening, 0, 2, shard=700)
    assert [is_done(part, tmp_path / "copy") for part in todo] == [True] * 3
    file = tmp_path / "copy" / f"{todo[1].block.name}.probabilities"
    file.write_bytes(b"\xff" * file.stat().st_size)  # NaN
    (tmp_path / "copy" / f"{todo[2].block.name}.ids").write_bytes(b"")
    assert [is_done(part, tmp_path / "copy") for part in todo] == [True, False, False]
    with pytest.raises(IncompleteArtifact, match="lack positions"):
        FolderDistributions(task.data, task.data, stored[1:])
    with pytest.raises(IncompleteArtifact, match="cover"):
        FolderDistributions(task.data, task.data, stored[:1])


def test_stored_distributions_train_as_live_teachers(taught: TrainSpec, stored, tmp_path: Path) -> None:
    live, kept = tmp_path / "live", tmp_path / "stored"
    training.train(taught, live)
    training.train(replace(taught, teachers=(), distributions=stored), kept)
    losses = [[line["loss"] for line in train_lines(folder)] for folder in (live, kept)]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    gold = tmp_path / "gold"
    training.train(replace(taught, teachers=()), gold)
    assert train_lines(gold)[0]["loss"] != pytest.approx(losses[0][0], rel=2e-3)


VARIANTS: dict[str, dict[str, Any]] = {
    "live": {},
    "stored": {"stored": True},
    "two processes": {"world_size": 2},
    "bf16": {"precision": Precision.bf16},
    "init_from": {"init_from": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_resumes_to_the_bit(taught: TrainSpec, stored, trained: Trained, tmp_path: Path, variant: str) -> None:
    """Twice 10 updates are 20, in every weight and number of the optimiser."""
    change = VARIANTS[variant]
    spec = replace(taught, world_size=change.get("world_size", 1))
    if change.get("stored"):
        spec = replace(spec, teachers=(), distributions=stored)
    if change.get("init_from"):
        prepare_start(
            start_files(str(trained.folder), 1), trained.folder / "dict.txt", spec.config.model, tmp_path / "s"
        )
        spec = replace(spec, init_from=tmp_path / "s")
    spec = replace(spec, config=replace(spec.config, precision=change.get("precision", Precision.fp32)))
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    training.train(spec, whole, threads=spec.world_size)
    for updates in (10, 20):
        training.train(replace(spec, config=replace(spec.config, max_update=updates)), halves, threads=spec.world_size)
    assert_equal_states(whole, halves)
    assert without_time(train_lines(whole)) == without_time(train_lines(halves))
    first = train_lines(whole)[0]["loss"]
    assert first < 4 if change.get("init_from") else first > 6  # log2(300) = 8.2 for an untrained model


def test_a_killed_training_goes_on_to_the_bit(taught: TrainSpec, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killed.mkdir()
    training.train(taught, whole)
    run_and_kill(taught, killed, 13, signal.SIGTERM)
    training.train(taught, killed)
    assert_equal_states(whole, killed)


def test_flags_name_the_criterion_and_its_settings(taught: TrainSpec, tmp_path: Path) -> None:
    lines = readable(arguments(taught, tmp_path)).split("\n")
    assert "--criterion kd_word_level" in lines
    assert "--distill-teachers " + os.pathsep.join(map(str, taught.teachers)) in lines
    assert {"--distill-alpha 0.8", "--distill-end-alpha 0.2", "--distill-end-updates 16", "--distill-top 8"} <= {*lines}
    assert "--criterion label_smoothed_cross_entropy" in readable(arguments(replace(taught, teachers=()), tmp_path))
