"""Word-level distillation as a criterion of fairseq, `--criterion kd_word_level` (Kim and Rush, 2016, section 3.1).

The loss of a target token is

    (1 - alpha) * label-smoothed cross-entropy + alpha * T^2 * cross-entropy(teachers, student)

where the teachers' distribution is the mean over the members of softmax(logits / T), given the target's prefix, and the
student's is softmax(logits / T). If only the most probable tokens are kept, the remaining probability is spread over
all other tokens or dropped. Only training uses this loss: validation reports the label-smoothed cross-entropy. Labels,
kept tokens and constants are one sparse target, computed at once (`fused.py`). `compat.install` imports this module and
thereby registers the criterion; its options are listed in `train.flags`.
"""

# No `from __future__ import annotations`: fairseq makes command-line options of the fields' types, which must be types.
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor
from torch.nn import functional

from kd.engines.fairseq.flags import WORD_LEVEL
from kd.engines.fairseq.fused import flat, smoothed_labels, sparse_cross_entropy

_IDS, _PROBABILITIES = "teacher_ids", "teacher_probabilities"  # keys of a batch that has stored distributions


@dataclass
class WordLevelConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """Options of the criterion; see `kd.recipe.schema.DistillConfig`."""

    distill_teachers: str = field(
        default="", metadata={"help": "checkpoints of the members, joined by the path separator"}
    )
    distill_stored: str = field(
        default="", metadata={"help": "folders of stored distributions, joined by the path separator"}
    )
    distill_alpha: float = field(default=0.5, metadata={"help": "weight of the cross-entropy against the teachers"})
    distill_end_alpha: float = field(default=0.5, metadata={"help": "weight at --distill-end-updates and after it"})
    distill_end_updates: int = field(
        default=0, metadata={"help": "update at which the end weight is reached; 0: constant"}
    )
    distill_temperature: float = field(default=1.0, metadata={"help": "divides the logits of both sides"})
    distill_top: int = field(default=0, metadata={"help": "most probable tokens that are kept; 0: all"})
    distill_drop_rest: bool = field(
        default=False, metadata={"help": "drop the probability of the other tokens instead of spreading it over them"}
    )


class SoftTargets(Protocol):
    """A source of teacher distributions."""

    whole: bool  # whether it gives distributions over the whole vocabulary

    def rows(self, sample: dict[str, Any], weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of each target position in a batch and their probabilities, each [positions, tokens].

        Args:
            sample: The batch in fairseq's form.
            weight: One of the student's weights, which determines device and type of the computation.

        Returns:
            Ids (meaningless if the distributions cover the whole vocabulary), and probabilities in fp32.
        """
        ...


class WordLevel(LabelSmoothedCrossEntropyCriterion):
    """Mix the label-smoothed cross-entropy with that against the teachers."""

    def __init__(self, cfg: Any, task: Any) -> None:
        super().__init__(task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy)
        self._alpha = (cfg.distill_alpha, cfg.distill_end_alpha, cfg.distill_end_updates)
        self._temperature = cfg.distill_temperature
        self._drop_rest = cfg.distill_drop_rest
        self._updates = 0  # done before the one at hand
        _note_updates(task, self)
        if cfg.distill_stored:
            self._teachers: SoftTargets = StoredTeachers(task, _paths(cfg.distill_stored))
        else:
            self._teachers = LiveTeachers(task, _paths(cfg.distill_teachers), self._temperature, cfg.distill_top)

    @property
    def alpha(self) -> float:
        """The weight of the teachers in the current update."""
        start, end, updates = self._alpha
        return start if not updates else start + (end - start) * min(1.0, self._updates / updates)

    def compute_loss(self, model: Any, net_output: Any, sample: Any, reduce: bool = True) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch and the negative log-likelihood of its labels: fairseq's interface."""
        if not model.training:
            return super().compute_loss(model, net_output, sample, reduce)
        logits, target = flat(model, net_output, sample)
        ids, probabilities = self._teachers.rows(sample, next(model.parameters()))
        mix = self._mix_whole if self._teachers.whole else self._mix_top
        losses, negative = mix(logits, target, ids, probabilities)
        negative = negative.masked_fill(target.eq(self.padding_idx), 0.0)
        return (losses.sum(), negative.sum()) if reduce else (losses.unsqueeze(-1), negative.unsqueeze(-1))

    def _mix_top(self, logits: Tensor, target: Tensor, ids: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Compute losses and negative log-likelihoods, [positions] each, from the most probable tokens."""
        alpha, labels = self.alpha, target.unsqueeze(-1)
        hard, smooth = smoothed_labels(target, logits.size(-1), self.eps, self.padding_idx)
        soft, rest = soft_targets(probabilities, logits.size(-1), drop_rest=self._drop_rest)
        counted = target.ne(self.padding_idx).float()
        soft, rest = alpha * soft * counted.unsqueeze(-1), alpha * rest * counted
        if self._temperature == 1:
            weights = torch.cat([(1 - alpha) * hard, soft], -1)
            return sparse_cross_entropy(logits, torch.cat([labels, ids], -1), weights, (1 - alpha) * smooth + rest)
        losses, negative = sparse_cross_entropy(logits, labels, (1 - alpha) * hard, (1 - alpha) * smooth)
        tempered, _ = sparse_cross_entropy(logits / self._temperature, ids, soft, rest)
        return losses + self._temperature**2 * tempered, negative

    def _mix_whole(self, logits: Tensor, target: Tensor, _: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Compute losses and negative log-likelihoods, [positions] each, from distributions over the vocabulary."""
        hard, smooth = smoothed_labels(target, logits.size(-1), self.eps, self.padding_idx)
        losses, negative = sparse_cross_entropy(logits, target.unsqueeze(-1), hard, smooth)
        logs = functional.log_softmax(logits.float() / self._temperature, dim=-1)
        soft = -(probabilities * logs).sum(-1).masked_fill(target.eq(self.padding_idx), 0.0)
        return (1 - self.alpha) * losses + self.alpha * self._temperature**2 * soft, negative


def _paths(joined: str) -> list[Path]:
    return [Path(path) for path in joined.split(os.pathsep)]


def _note_updates(task: Any, criterion: WordLevel) -> None:
    """Make the task's `train_step`, which has the number of updates, pass it to the criterion."""
    step = task.train_step

    def train_step(*, update_num: int, **given: Any) -> Any:  # the trainer names every argument
        criterion._updates = update_num
        return step(update_num=update_num, **given)

    task.train_step = train_step


def soft_targets(probabilities: Tensor, vocabulary: int, *, drop_rest: bool) -> tuple[Tensor, Tensor]:
    """Turn the probabilities of the most probable tokens into weights and a constant over the whole vocabulary.

    Args:
        probabilities: Probabilities of the kept tokens, [positions, tokens].
        vocabulary: The size of the vocabulary.
        drop_rest: Scale the probabilities to sum to 1, instead of sharing the rest equally among the other tokens.

    Returns:
        The weight of each kept token beyond the constant, [positions, tokens], and the constant, [positions].
    """
    total = probabilities.sum(-1)
    if drop_rest:
        return probabilities / total.clamp(min=1e-9).unsqueeze(-1), torch.zeros_like(total)
    rest = (1 - total).clamp(min=0) / max(1, vocabulary - probabilities.size(-1))
    return probabilities - rest.unsqueeze(-1), rest


class LiveTeachers:
    """Models that compute their distributions for each batch of the student's training."""

    def __init__(self, task: Any, checkpoints: Sequence[Path], temperature: float, top: int) -> None:
        from kd.engines.fairseq import model

        dictionaries = task.source_dictionary, task.target_dictionary
        self._models = [model.load_teacher(path, *dictionaries) for path in checkpoints]
        self._temperature = temperature
        self._top = top
        self.whole = not top
        self._place: tuple[Any, Any] | None = None  # device and type of the models' weights

    def rows(self, sample: dict[str, Any], weight: Tensor) -> tuple[Tensor, Tensor]:
        """See `SoftTargets`."""
        if self._place != (weight.device, weight.dtype):
            self._place = (weight.device, weight.dtype)
            self._models = [model.to(*self._place) for model in self._models]
        probabilities = mean_distribution(self._models, sample["net_input"], self._temperature).flatten(0, 1)
        if self.whole:
            return probabilities.new_empty(0), probabilities
        best = probabilities.topk(self._top, -1)
        return best.indices, best.values


@torch.no_grad()
def mean_distribution(models: Sequence[Any], net_input: dict[str, Tensor], temperature: float) -> Tensor:
    """Average softmax(logits / temperature) over models, for each prefix: [sentences, width, vocabulary].

    Args:
        models: Models in evaluation mode, with one vocabulary.
        net_input: fairseq's `src_tokens`, `src_lengths` and `prev_output_tokens`.
        temperature: Above 0.
    """
    total: Tensor | None = None
    for model in models:
        probabilities = functional.softmax(model(**net_input)[0].float() / temperature, dim=-1)
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None, "an ensemble needs at least one member"
    return total.div_(len(models))


class StoredTeachers:
    """Distributions that the stage `soften` computed; each training batch carries its own."""

    whole = False

    def __init__(self, task: Any, stored: Sequence[Path]) -> None:
        self._stored = stored
        load = task.load_dataset

        def load_dataset(split: str, epoch: int = 1, **options: Any) -> None:
            load(split, epoch=epoch, **options)
            if split == task.cfg.train_subset:
                self._attach(task, task.datasets[split], epoch)

        task.load_dataset = load_dataset

    def _attach(self, task: Any, dataset: Any, epoch: int) -> None:
        """Make the dataset of an epoch add distributions to its batches."""
        from kd.engines.fairseq.distributions import FolderDistributions

        folders = _paths(task.cfg.data)
        folder = folders[(epoch - 1) % len(folders)]
        dataset.collater = partial(_collate, dataset.collater, FolderDistributions(folders[0], folder, self._stored))

    def rows(self, sample: dict[str, Any], weight: Tensor) -> tuple[Tensor, Tensor]:
        """See `SoftTargets`."""
        ids, probabilities = (sample[name].flatten(0, 1) for name in (_IDS, _PROBABILITIES))
        # fairseq turns the numbers of a batch into the student's type, which may be half precision.
        return ids, probabilities.float()


def _collate(collate: Any, distributions: Any, samples: Any, *rest: Any, **options: Any) -> Any:
    batch = collate(samples, *rest, **options)
    if batch:
        ids, probabilities = distributions.batch(batch["id"].tolist(), batch["target"].size(1))
        batch[_IDS], batch[_PROBABILITIES] = torch.from_numpy(ids), torch.from_numpy(probabilities)
    return batch


register_criterion(WORD_LEVEL, dataclass=WordLevelConfig)(WordLevel)
