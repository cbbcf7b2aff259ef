"""Settings of learning from teachers beyond their text: token distributions, and layers to start from.

`student.distill`, `student.start` and `soften`; docs/distillation.md explains them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kd.recipe.schema.marks import same_as, setting


class Rest(Enum):
    """The probability of the tokens that are not among the `top` most probable ones."""

    spread = "spread"  # shared equally by all other tokens
    drop = "drop"  # left out: the kept tokens are scaled to sum to 1


@dataclass
class DistillConfig:
    """Word-level distillation (Kim and Rush, 2016, section 3.1): the teachers' token distributions in the loss."""

    alpha: float = setting(
        "Weight of the cross-entropy against the teachers; the rest is the labels'; 0: off.",
        0.0,
        at_least=0,
        at_most=1,
        aliases=("kd_weight", "distill_weight", "lambda"),
    )
    end_alpha: float | None = setting(
        "Final weight, which alpha reaches linearly at `end_updates`; null: alpha stays constant.",
        None,
        at_least=0,
        at_most=1,
    )
    end_updates: int = setting("Update at which `end_alpha` is reached.", 0, unit="updates", at_least=0)
    temperature: float = setting(
        "Divides the logits of both sides; the loss is multiplied by its square.", 1.0, above=0, aliases=("tau",)
    )
    top: int = setting(
        "Number of most probable tokens kept per distribution; 0: the whole vocabulary.",
        0,
        unit="tokens",
        at_least=0,
        aliases=("top_k", "k"),
    )
    rest: Rest = setting(
        "Treatment of the probability of the tokens beyond `top`: spread over them, or dropped.", Rest.drop
    )
    members: int = setting(
        "Number of teachers whose distributions are learnt, counted from the first; 0: all.",
        0,
        unit="teachers",
        at_least=0,
    )
    stored: bool = setting(
        "Compute the distributions once, in the stage soften, instead of in each update; needs `top`.",
        False,
        transient=True,
    )


class LayerChoice(Enum):
    """The choice of the teacher's t layers that become the student's s layers, i = 0 … s - 1."""

    spread = "spread"  # layer floor(i t / s)
    ends = "ends"  # layer round(i (t - 1) / (s - 1)): the first, the last and evenly between; a single one is the first
    first = "first"  # layer i, the last one repeated where the student has more
    last = "last"  # layer t - s + i, the first one repeated where the student has more


@dataclass
class StartConfig:
    """A start from the embeddings and layers of a teacher of the student's width, in place of random weights."""

    layers: bool = setting(
        "Start student member k from layers of teacher k, beginning again with teacher 1 after the last teacher.", False
    )
    encoder: LayerChoice = setting("Layers of the teacher's encoder.", LayerChoice.spread)
    decoder: LayerChoice = setting("Layers of the teacher's decoder.", LayerChoice.ends)
    learning_rate: float | None = setting(
        "Learning rate of a training that starts from a teacher; null: optimizer.learning_rate.",
        None,
        above=0,
    )


@dataclass
class SoftenConfig:
    """The teachers' distributions for an encoded corpus, computed once (`student.distill.stored`)."""

    top: int = setting("Tokens kept at each position.", same_as("student.distill.top"), unit="tokens", at_least=0)
    temperature: float = setting("Divides the teachers' logits.", same_as("student.distill.temperature"), above=0)
    members: int = setting(
        "Number of teachers, counted from the first; 0: all.",
        same_as("student.distill.members"),
        unit="teachers",
        at_least=0,
    )
    workers: int = setting("Tasks; each takes an equal part of the sentences.", 1, unit="tasks", at_least=1)
    batch_tokens: int = setting(
        "Target tokens of a batch, padding included.", 4000, unit="target tokens", at_least=1, transient=True
    )
    shard: int = setting(
        "Sentences per file; an interrupted task resumes with the current file.",
        20_000,
        unit="sentences",
        at_least=1,
        transient=True,
    )
