"""fairseq behind its compatibility module: parameters counted right, safe loading, BLEU on plain text."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd.base.errors import UserError
from kd.engines.fairseq import compat, model
from kd.engines.fairseq.average import average
from kd.engines.fairseq.loading import load
from kd.engines.fairseq.translate import EnsembleTranslator
from kd.models.training_log import read_metrics
from kd.models.transformer import parameter_count
from kd.recipe.schema import ModelConfig


def shape(**changes: object) -> ModelConfig:
    """The student of the talk, or a variation of it."""
    values = {
        "encoder_layers": 12,
        "decoder_layers": 1,
        "width": 512,
        "ffn": 2048,
        "heads": 8,
        "pre_norm": True,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
    return ModelConfig(**(values | changes))


def dictionary(folder: Path, size: int) -> Path:
    """A fairseq dictionary of `size` symbols, the four special ones included."""
    path = folder / "dict.txt"
    path.write_text("".join(f"piece{number} 1\n" for number in range(size - 4)), "utf-8")
    return path


# Counted by hand for 12+1 layers, width 512, feed-forward 2048, 32,000 pieces, one embedding matrix, pre-norm:
#   attention 4 * (512 * 512 + 512) = 1,050,624
#   feed-forward 512 * 2048 + 2048 + 2048 * 512 + 512 = 2,099,712; normalisation 2 * 512 = 1,024
#   encoder layer 1,050,624 + 2,099,712 + 2 * 1,024 = 3,152,384
#   decoder layer 2 * 1,050,624 + 2,099,712 + 3 * 1,024 = 4,204,032
#   12 * 3,152,384 + 4,204,032 + 32,000 * 512 + 2 * 1,024 (final norms) = 58,418,688, the talk's "about 58 M"
DEEP_SHALLOW = 58_418_688


def test_the_parameters_of_the_student_are_those_counted_by_hand(tmp_path: Path) -> None:
    built = model.build(shape(), dictionary(tmp_path, 32_000))
    assert model.count_parameters(built) == DEEP_SHALLOW
    assert parameter_count(shape(), 32_000) == DEEP_SHALLOW


@pytest.mark.parametrize("changes", [{"pre_norm": False}, {"tie_embeddings": False}, {"decoder_layers": 3}])
def test_the_formula_equals_the_parameters_of_a_built_model(tmp_path: Path, changes: dict[str, object]) -> None:
    small = shape(encoder_layers=2, width=32, ffn=48, heads=4, **changes)
    assert parameter_count(small, 100) == model.count_parameters(model.build(small, dictionary(tmp_path, 100)))


def test_checkpoints_have_no_second_copy_of_encoder_weights(trained, spec, task) -> None:
    weights = load(trained.result.checkpoints[0])["model"]
    assert not [name for name in weights if "in_proj" in name or name.endswith(("fc1_weight", "fc2_weight"))]
    numbers = {name: tensor for name, tensor in weights.items() if tensor.dim() and not name.endswith("_float_tensor")}
    shared = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")  # tied to encoder.embed_tokens.weight
    total = sum(tensor.numel() for name, tensor in numbers.items() if name not in shared)
    # `encoder.version` and its like are scalars that fairseq keeps beside the weights.
    total -= sum(1 for name in numbers if name.endswith("version"))
    assert total == parameter_count(spec.config.model, task.vocabulary.size)


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    import torch

    compat.install()
    for number, write in enumerate((torch.save, lambda value, path: Path(path).write_bytes(pickle.dumps(value)))):
        path = tmp_path / f"evil{number}.pt"
        write({"model": {}, "cfg": {"model": Evil(tmp_path / "ran")}}, path)
        with pytest.raises(UserError, match="cannot be read as a checkpoint"):
            load(path)
        assert not (tmp_path / "ran").exists()


NOTHING, WRONG, RIGHT = ("", "a b c d e"), ("v w x y z", "a b c d e"), ("a b c d e", "a b c d e f")


@pytest.mark.parametrize(
    "batches", [[NOTHING], [WRONG], [NOTHING, RIGHT], [RIGHT, NOTHING, WRONG], [WRONG, RIGHT], [NOTHING, WRONG]]
)
def test_bleu_counts_batches_without_output_or_without_matches(batches: list[tuple[str, str]]) -> None:
    """fairseq 0.12.2 logs no BLEU for empty output; the expected value is sacreBLEU's."""
    import sacrebleu

    compat.install()
    from fairseq.logging import metrics
    from fairseq.tasks.translation import TranslationTask

    translating = TranslationTask.__new__(TranslationTask)
    translating.cfg = SimpleNamespace(eval_bleu=True)
    criterion = type("Criterion", (), {"reduce_metrics": staticmethod(lambda outputs: None)})()
    with metrics.aggregate(new_root=True) as meters:
        for hypothesis, reference in batches:
            score = sacrebleu.corpus_bleu([hypothesis], [[reference]])
            counted = {"ntokens": 1, "nsentences": 1, "_bleu_sys_len": score.sys_len, "_bleu_ref_len": score.ref_len}
            for order in range(4):
                counted |= {f"_bleu_counts_{order}": score.counts[order], f"_bleu_totals_{order}": score.totals[order]}
            translating.reduce_metrics([counted], criterion)
    hypotheses, references = zip(*batches, strict=True)
    expected = sacrebleu.corpus_bleu(list(hypotheses), [list(references)]).score
    assert meters.get_smoothed_values()["bleu"] == pytest.approx(expected, abs=0.006)


def test_dev_bleu_is_that_of_sacrebleu_on_the_same_output(trained, task, tmp_path: Path) -> None:
    import sacrebleu

    newest = trained.result.checkpoints[0]
    average([newest], tmp_path / "model.pt")
    for name in ("dict.txt", "vocabulary.model"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    translator = EnsembleTranslator([tmp_path], task.vocabulary, beam=1, max_pieces=40)
    output = [hypotheses[0].text for hypotheses in translator.translate([source for source, _ in task.dev])]
    expected = sacrebleu.corpus_bleu(output, [[target for _, target in task.dev]]).score
    logged = [entry for entry in read_metrics(trained.folder / "metrics.jsonl") if entry["split"] == "dev"][-1]
    assert logged["bleu"] == pytest.approx(expected, abs=0.006)  # fairseq logs two digits
    assert expected > 50  # learnt, not nothing against nothing


@pytest.mark.parametrize(
    ("place", "before", "now", "expected"),
    [(150, 300, 30, 15), (299, 300, 3, 2), (1, 300, 3, 0), (5, 6, 6, 5), (3, 4, 1, 0)],
)
def test_a_place_in_an_epoch_is_found_again_on_other_devices(place: int, before: int, now: int, expected: int) -> None:
    """A place that comes to lie at the end is that of the last pass: the end itself fairseq refuses."""
    compat.install()
    from fairseq.data import ListDataset
    from fairseq.data.iterators import EpochBatchIterator

    def epochs(passes: int) -> EpochBatchIterator:
        batches = [[number] for number in range(passes)]
        return EpochBatchIterator(ListDataset(list(range(passes))), list, batch_sampler=batches)

    saved = epochs(before)
    reading = saved.next_epoch_itr(shuffle=False)
    for _ in range(place):
        next(reading)
    resumed = epochs(now)
    resumed.load_state_dict(saved.state_dict())
    assert (resumed.epoch, resumed.iterations_in_epoch) == (1, expected)
    assert len(list(resumed.next_epoch_itr(shuffle=False))) == now - expected


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "checkpoint.pt"
    compat.save_atomically({"weight": torch.ones(3)}, str(path))
    before = path.read_bytes()
    (tmp_path / "checkpoint.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        compat.save_atomically({"weight": torch.zeros(100_000)}, str(path))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_stock_programs_are_named_and_unknown_ones_refused() -> None:
    command = [sys.executable, "-m", "kd.engines.fairseq"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert helped.returncode == 0
    assert "fairseq-generate" in helped.stdout
    refused = subprocess.run([*command, "fairseq-paint"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "fairseq-paint" in refused.stderr
