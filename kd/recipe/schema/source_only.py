"""Settings of source-only text: corpora with `use: source`, which the teachers translate for the student."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kd.recipe.schema.marks import setting


class SourceMetric(StrEnum):
    """Scores to select by that need no human translation; members of `SelectMetric`."""

    model = "model"  # the teachers' own score
    mbr_bleu = "mbr_bleu"
    mbr_chrf = "mbr_chrf"
    mbr_comet = "mbr_comet"
    qe = "qe"


@dataclass
class SourceOnlyConfig:
    """Text of corpora with `use: source`, which has no translations."""

    share: float = setting(
        "Largest share of source-only text in the student's corpus, in characters of the source side; text beyond it "
        "is left out at random before decoding, and no text is repeated.",
        above=0,
        at_most=1,
    )
    metric: SourceMetric = setting("Score to select its translations by: one that needs no human translation.")
