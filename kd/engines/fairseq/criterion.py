"""Word-level distillation as a criterion of fairseq, `--criterion kd_word_level` (Kim and Rush, 2016, section 3.1).

The loss of a target token is

    (1 - alpha) * label-smoothed cross-entropy + alpha * T^2 * cross-entropy(teachers, student)

where the teachers' distribution is the mean over the members of softmax(logits / T), given the target's prefix, and the
student's is softmax(logits / T). Only training uses it: a validation reports the label-smoothed cross-entropy alone.
`compat.install` imports this module and so registers the criterion; its options stand in `train.flags`.
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
    label_smoothed_nll_loss,
)
from torch import Tensor
from torch.nn import functional

from kd.engines.fairseq.flags import WORD_LEVEL

_IDS, _PROBABILITIES = "teacher_ids", "teacher_probabilities"  # keys of a batch that has stored distributions


@dataclass
class WordLevelConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """Options of the criterion; see `kd.recipe.schema.DistillConfig`."""

    distill_teachers: str = field(
        default="", metadata={"help": "checkpoints of the members, joined by the path separator"}
    )
    distill_stored: str = field(default="", metadata={"help": "folders of stored distributions, joined likewise"})
    distill_alpha: float = field(default=0.5, metadata={"help": "weight of the cross-entropy against the teachers"})
    distill_end_alpha: float = field(default=0.5, metadata={"help": "weight at --distill-end-updates and after it"})
    distill_end_updates: int = field(
        default=0, metadata={"help": "update at which the end weight is reached; 0: constant"}
    )
    distill_temperature: float = field(default=1.0, metadata={"help": "divides the logits of both sides"})
    distill_top: int = field(default=0, metadata={"help": "most probable tokens that count; 0: all"})


class SoftTargets(Protocol):
    """A source of teacher distributions."""

    def cross_entropy(self, logs: Tensor, sample: dict[str, Any], weight: Tensor) -> Tensor:
        """The cross-entropy of each target position of a batch, [positions], against the teachers' distributions.

        Args:
            logs: Log-probabilities of the student, in fp32, [positions, vocabulary].
            sample: The batch as fairseq made it.
            weight: One of the student's weights: its device and type are those to compute with.
        """
        ...


class WordLevel(LabelSmoothedCrossEntropyCriterion):
    """Mixes the label-smoothed cross-entropy with that against the teachers."""

    def __init__(self, cfg: Any, task: Any) -> None:
        super().__init__(task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy)
        self._alpha = (cfg.distill_alpha, cfg.distill_end_alpha, cfg.distill_end_updates)
        self._temperature = cfg.distill_temperature
        self._updates = 0  # done before the one at hand
        _note_updates(task, self)
        if cfg.distill_stored:
            self._teachers: SoftTargets = StoredTeachers(task, _paths(cfg.distill_stored))
        else:
            self._teachers = LiveTeachers(task, _paths(cfg.distill_teachers), self._temperature, cfg.distill_top)

    @property
    def alpha(self) -> float:
        """The weight of the teachers in the update at hand."""
        start, end, updates = self._alpha
        return start if not updates else start + (end - start) * min(1.0, self._updates / updates)

    def compute_loss(self, model: Any, net_output: Any, sample: Any, reduce: bool = True) -> tuple[Tensor, Tensor]:
        """The loss, and the negative log-likelihood of the labels, of a batch; fairseq's interface."""
        logs, target = self.get_lprobs_and_target(model, net_output, sample)
        loss, nll_loss = label_smoothed_nll_loss(logs, target, self.eps, ignore_index=self.padding_idx, reduce=reduce)
        if not model.training:
            return loss, nll_loss
        if self._temperature != 1:
            logits = net_output[0].float() / self._temperature
            logs = functional.log_softmax(logits, dim=-1).view(-1, logits.size(-1))
        soft = self._teachers.cross_entropy(logs, sample, next(model.parameters()))
        soft = soft.masked_fill(target.eq(self.padding_idx), 0.0)
        soft = soft.sum() if reduce else soft.unsqueeze(-1)
        return (1 - self.alpha) * loss + self.alpha * self._temperature**2 * soft, nll_loss


def _paths(joined: str) -> list[Path]:
    return [Path(path) for path in joined.split(os.pathsep)]


def _note_updates(task: Any, criterion: WordLevel) -> None:
    """Let the task's `train_step`, which knows the number of updates, hand it to the criterion."""
    step = task.train_step

    def train_step(*, update_num: int, **given: Any) -> Any:  # the trainer names every argument
        criterion._updates = update_num
        return step(update_num=update_num, **given)

    task.train_step = train_step


def top_cross_entropy(logs: Tensor, ids: Tensor, probabilities: Tensor) -> Tensor:
    """The cross-entropy against the most probable tokens alone, scaled to sum to 1: [positions].

    Args:
        logs: Log-probabilities of the student, [positions, vocabulary].
        ids: Tokens, [positions, top].
        probabilities: The teachers' probabilities of these tokens, [positions, top]; a row of zeros gives 0.
    """
    total = probabilities.sum(-1).clamp(min=1e-9)
    return -(probabilities * logs.gather(-1, ids)).sum(-1) / total


class LiveTeachers:
    """Models that compute their distributions for each batch of the student's training."""

    def __init__(self, task: Any, checkpoints: Sequence[Path], temperature: float, top: int) -> None:
        from kd.engines.fairseq import model

        dictionaries = task.source_dictionary, task.target_dictionary
        self._models = [model.load_teacher(path, *dictionaries) for path in checkpoints]
        self._temperature = temperature
        self._top = top
        self._place: tuple[Any, Any] | None = None  # device and type of the models' weights

    def cross_entropy(self, logs: Tensor, sample: dict[str, Any], weight: Tensor) -> Tensor:
        """See `SoftTargets`."""
        if self._place != (weight.device, weight.dtype):
            self._place = (weight.device, weight.dtype)
            self._models = [model.to(*self._place) for model in self._models]
        probabilities = mean_distribution(self._models, sample["net_input"], self._temperature).flatten(0, 1)
        if not self._top:
            return -(probabilities * logs).sum(-1)
        best = probabilities.topk(self._top, -1)
        return top_cross_entropy(logs, best.indices, best.values)


@torch.no_grad()
def mean_distribution(models: Sequence[Any], net_input: dict[str, Tensor], temperature: float) -> Tensor:
    """The mean over models of softmax(logits / temperature), given each prefix: [sentences, width, vocabulary].

    Args:
        models: In evaluation mode, of one vocabulary.
        net_input: fairseq's `src_tokens`, `src_lengths` and `prev_output_tokens`.
        temperature: Above 0.
    """
    total: Tensor | None = None
    for model in models:
        probabilities = functional.softmax(model(**net_input)[0].float() / temperature, dim=-1)
        total = probabilities if total is None else total.add_(probabilities)
    assert total is not None, "an ensemble has a member"
    return total.div_(len(models))


class StoredTeachers:
    """Distributions that the stage `soften` computed: each batch of the training set brings its own."""

    def __init__(self, task: Any, stored: Sequence[Path]) -> None:
        self._stored = stored
        load = task.load_dataset

        def load_dataset(split: str, epoch: int = 1, **options: Any) -> None:
            load(split, epoch=epoch, **options)
            if split == task.cfg.train_subset:
                self._attach(task, task.datasets[split], epoch)

        task.load_dataset = load_dataset

    def _attach(self, task: Any, dataset: Any, epoch: int) -> None:
        """Let the dataset of an epoch put distributions into its batches."""
        from kd.engines.fairseq.distributions import FolderDistributions

        folders = _paths(task.cfg.data)
        folder = folders[(epoch - 1) % len(folders)]
        dataset.collater = partial(_collate, dataset.collater, FolderDistributions(folders[0], folder, self._stored))

    def cross_entropy(self, logs: Tensor, sample: dict[str, Any], weight: Tensor) -> Tensor:
        """See `SoftTargets`."""
        ids, probabilities = (sample[name].flatten(0, 1) for name in (_IDS, _PROBABILITIES))
        # fairseq turns the numbers of a batch into the student's type, which may be half precision.
        return top_cross_entropy(logs, ids, probabilities.float())


def _collate(collate: Any, distributions: Any, samples: Any, *rest: Any, **options: Any) -> Any:
    batch = collate(samples, *rest, **options)
    if batch:
        ids, probabilities = distributions.batch(batch["id"].tolist(), batch["target"].size(1))
        batch[_IDS], batch[_PROBABILITIES] = torch.from_numpy(ids), torch.from_numpy(probabilities)
    return batch


register_criterion(WORD_LEVEL, dataclass=WordLevelConfig)(WordLevel)
