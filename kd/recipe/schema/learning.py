"""Settings of what a student takes from its teachers beside their text: token distributions, and layers to start from.

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
        "Weight of the cross-entropy against the teachers; the labels have the rest; 0: off.",
        0.0,
        at_least=0,
        at_most=1,
        aliases=("kd_weight", "distill_weight", "lambda"),
    )
    end_alpha: float | None = setting(
        "Weight that alpha moves to in a straight line until `end_updates`; null: alpha stays.",
        None,
        at_least=0,
        at_most=1,
    )
    end_updates: int = setting("Update at which `end_alpha` is reached.", 0, unit="updates", at_least=0)
    temperature: float = setting(
        "Divides the logits of both sides; the loss is multiplied by its square.", 1.0, above=0, aliases=("tau",)
    )
    top: int = setting(
        "Most probable tokens of each distribution that are kept; 0: the whole vocabulary.",
        0,
        unit="tokens",
        at_least=0,
        aliases=("top_k", "k"),
    )
    rest: Rest = setting("The probability of the tokens beyond `top`: spread over them, or dropped.", Rest.drop)
    members: int = setting(
        "Teachers whose distributions are learnt, the first ones; 0: all.", 0, unit="teachers", at_least=0
    )
    stored: bool = setting(
        "Compute the distributions once, in the stage soften, instead of in each update; needs `top`.",
        False,
        transient=True,
    )


class LayerChoice(Enum):
    """Which of a teacher's t layers become the student's s layers, i = 0 … s - 1."""

    spread = "spread"  # layer floor(i t / s)
    ends = "ends"  # layer round(i (t - 1) / (s - 1)): the first, the last and evenly between; a single one is the first
    first = "first"  # layer i, the last one repeated where the student has more
    last = "last"  # layer t - s + i, the first one repeated where the student has more


@dataclass
class StartConfig:
    """A start from the embeddings and layers of a teacher of the student's width, in place of random weights."""

    layers: bool = setting(
        "Start student member k from layers of teacher k, and from teacher 1 again after the last one.", False
    )
    encoder: LayerChoice = setting("Layers of the teacher's encoder.", LayerChoice.spread)
    decoder: LayerChoice = setting("Layers of the teacher's decoder.", LayerChoice.ends)
    learning_rate: float | None = setting(
        "Learning rate of a training that starts from a teacher; null: three eighths of optimizer.learning_rate.",
        None,
        above=0,
    )


@dataclass
class SoftenConfig:
    """The teachers' distributions for an encoded corpus, computed once (`student.distill.stored`)."""

    top: int = setting("Tokens kept at each position.", same_as("student.distill.top"), unit="tokens", at_least=0)
    temperature: float = setting("Divides the teachers' logits.", same_as("student.distill.temperature"), above=0)
    members: int = setting(
        "Teachers, the first ones; 0: all.", same_as("student.distill.members"), unit="teachers", at_least=0
    )
    workers: int = setting("Tasks; each takes an equal part of the sentences.", 1, unit="tasks", at_least=1)
    batch_tokens: int = setting(
        "Target tokens of a batch, padding included.", 4000, unit="target tokens", at_least=1, transient=True
    )
    shard: int = setting(
        "Sentences of a file; an interrupted task resumes with the file it was at.",
        20_000,
        unit="sentences",
        at_least=1,
        transient=True,
    )
