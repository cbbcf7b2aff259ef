"""Settings of mixtures: several teachers of different kinds, whose lists are joined for each source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kd.recipe.schema.distillation import DecodePrecision
from kd.recipe.schema.marks import same_as, setting


@dataclass
class MixtureMemberConfig:
    """A member of a mixture: a teacher that decodes alone, or several teachers of fairseq as an ensemble."""

    teachers: dict[str, bool] = setting(
        "Names of `teachers` that decode as an ensemble, as NAME: true; empty: the teacher with the member's own name.",
        factory=dict,
    )
    decode: dict[str, Any] = setting(
        "Settings of `decode` that differ for this member, such as {method: sample, nbest: 8}.",
        factory=dict,
        transient=True,  # part of the fingerprints of the lists, which the stage that joins them reads
    )

    def named(self, name: str) -> list[str]:
        """Return the names of the member's teachers; `name` is the member's own."""
        return [each for each, wanted in self.teachers.items() if wanted] or [name]


@dataclass
class MixConfig:
    """Joining of the lists of a mixture's members."""

    members: dict[str, MixtureMemberConfig] = setting("The members by name.", same_as("mixture"))
    precision: DecodePrecision = setting(
        "Number format of the scores of fairseq's models.", same_as("decode.precision")
    )
    max_pieces: int = setting(
        "Tokens of a hypothesis that teachers score; of a longer one they score the beginning.",
        same_as("decode.max_pieces"),
        unit="tokens",
        at_least=1,
    )
    batch_tokens: int = setting(
        "Tokens per batch, of the longer side, padding included.",
        same_as("decode.batch_tokens"),
        unit="tokens",
        at_least=1,
        transient=True,
    )
    workers: int = setting(
        "Tasks; worker i joins the shards whose number is i modulo workers.",
        same_as("decode.workers"),
        unit="tasks",
        at_least=1,
    )
    share: float = setting(
        "Share of the shards to join: those that the members decode.",
        same_as("decode.share"),
        above=0,
        at_most=1,
        extent=True,
    )
