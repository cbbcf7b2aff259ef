"""A start from layers of a teacher: the choice of layers, and models that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq import training
from kd.engines.fairseq.flags import TrainSpec
from kd.engines.fairseq.layers import layer_map, prepare_layers
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.start import start_files
from kd.recipe.schema import CheckpointConfig, LayerChoice, Metric, StartConfig
from tests.tiny_model import Trained


@pytest.mark.parametrize(
    ("choice", "teacher", "student", "expected"),
    [
        (LayerChoice.spread, 3, 4, [0, 0, 1, 2]),
        (LayerChoice.spread, 6, 12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (LayerChoice.spread, 6, 2, [0, 3]),
        (LayerChoice.ends, 3, 2, [0, 2]),
        (LayerChoice.ends, 6, 1, [0]),
        (LayerChoice.ends, 6, 3, [0, 2, 5]),
        (LayerChoice.first, 3, 2, [0, 1]),
        (LayerChoice.first, 2, 4, [0, 1, 1, 1]),
        (LayerChoice.last, 3, 2, [1, 2]),
        (LayerChoice.last, 6, 1, [5]),
        (LayerChoice.last, 2, 4, [0, 0, 0, 1]),
    ],
)
def test_layers_are_copied_by_the_rule(choice: LayerChoice, teacher: int, student: int, expected: list[int]) -> None:
    assert layer_map(choice, teacher, student) == expected


def test_a_deeper_student_starts_from_the_layers_of_its_teacher(
    trained: Trained, spec: TrainSpec, tmp_path: Path
) -> None:
    """The tiny teacher has two encoder layers and one decoder layer; the student three and two."""
    config = replace(
        spec.config,
        model=replace(spec.config.model, encoder_layers=3, decoder_layers=2, dropout=0.0),
        optimizer=replace(spec.config.optimizer, learning_rate=1e-30, warmup_updates=1),
        checkpoint=CheckpointConfig(every=1, keep=1, average=1, metric=Metric.loss),
        max_update=1,
        validate_bleu=False,
    )
    start = tmp_path / "start.pt"
    files = start_files(str(trained.folder), 1)
    told = prepare_layers(files, trained.folder / "dict.txt", config.model, StartConfig(layers=True), start)
    assert told.endswith("encoder 1, 1, 2 of 2; decoder 1, 1 of 1.")
    training.train(replace(spec, config=config, init_from=start), tmp_path / "run")
    teacher = load(trained.folder / "model.pt")["model"]
    student = load(tmp_path / "run" / "checkpoints" / "checkpoint_last.pt")["model"]
    sources = {"encoder.layers.0": "encoder.layers.0", "encoder.layers.1": "encoder.layers.0",
               "encoder.layers.2": "encoder.layers.1", "decoder.layers.0": "decoder.layers.0",
               "decoder.layers.1": "decoder.layers.0"}  # fmt: skip
    for name, weight in student.items():
        own = next((layer for layer in sources if name.startswith(f"{layer}.")), None)
        source = name.replace(own, sources[own], 1) if own else name
        # The first step has the rate that the warm-up begins with, 1e-7.
        assert float((weight - teacher[source]).abs().max()) < 3e-7, name
    assert sum(name.startswith("encoder.layers.2.") for name in student) > 10


def test_a_teacher_of_another_width_is_refused(trained: Trained, spec: TrainSpec, tmp_path: Path) -> None:
    files = start_files(str(trained.folder), 1)
    for change, named in (({"width": 128}, "encoder_embed_dim 64"), ({"heads": 2}, "encoder_attention_heads 4")):
        model = replace(spec.config.model, encoder_layers=4, **change)
        with pytest.raises(UserError, match=f"student.start: .* has {named}"):
            prepare_layers(files, trained.folder / "dict.txt", model, StartConfig(layers=True), tmp_path / "start.pt")
    other = tmp_path / "dict.txt"
    other.write_text("a 1\n", "utf-8")
    with pytest.raises(UserError, match="has the vocabulary"):
        prepare_layers(files, other, spec.config.model, StartConfig(layers=True), tmp_path / "start.pt")
    assert not (tmp_path / "start.pt").exists()
