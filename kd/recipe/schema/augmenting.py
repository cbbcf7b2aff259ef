"""Settings of augmentation: variants of training pairs, which make a student robust."""

from __future__ import annotations

from dataclasses import dataclass

from kd.recipe.schema.marks import same_as, setting


@dataclass
class AugmentConfig:
    """Variants of training pairs, learnt besides the pairs: at most one variant and one copied span per source."""

    seed: int = setting("Seed that chooses the sources and draws typing errors and spans.", same_as("seed"), at_least=0)
    upper_case: float = setting(
        "Share of the sources with a variant whose both sides are in capitals.", 0.0, at_least=0, at_most=1
    )
    title_case: float = setting(
        "Share of the sources with a variant whose source is in title case.", 0.0, at_least=0, at_most=1
    )
    no_full_stop: float = setting(
        "Share of the sources with a variant without the final full stop on both sides.", 0.0, at_least=0, at_most=1
    )
    typos: float = setting(
        "Share of the sources with a variant that has a typing error in the source.", 0.0, at_least=0, at_most=1
    )
    concatenated: float = setting(
        "Share of the sources with a variant that begins with the preceding pair.", 0.0, at_least=0, at_most=1
    )
    single: float = setting(
        "Share of the sources with a variant that is one sentence of the pair, if both sides have several.",
        0.0,
        at_least=0,
        at_most=1,
    )
    copied_spans: float = setting(
        "Share of the sources with a further pair that has the same number, URL or address on both sides, added "
        "after selection.",
        0.0,
        at_least=0,
        at_most=1,
    )
