"""Settings of the filter by a backward model: its model, and the share of pairs that it drops."""

from __future__ import annotations

from dataclasses import dataclass

from kd.recipe.schema.marks import setting


@dataclass
class BackwardModelConfig:
    """A model of the opposite direction, for the score `backward` of the stage `score`."""

    model: str | None = setting(
        "Folder of a model that translates from target to source: a model folder of kd, such as "
        "runs/NAME/teacher.{target}-{source}/member-1, or of Hugging Face; `{source}` and `{target}` stand for the "
        "pair's language codes.",
        None,
        path=True,
        transient=True,
    )
    compute_type: str = setting("Number format that a model of Hugging Face is converted to.", "float32")
    prefix: str = setting("Text before each translation, for a model of Hugging Face that needs it.", "")
    batch_tokens: int = setting(
        "Tokens per batch, padding included.", 4000, unit="tokens", at_least=1, aliases=("batch_size",), transient=True
    )


@dataclass
class BackwardDropConfig:
    """The pairs that are left out after selection, by the score of a backward model."""

    drop: float = setting(
        "Share of a language pair's selected pairs to leave out, those with the lowest score; 0: none (0.05 in "
        "Mozilla's and Bergamot's pipelines).",
        0.0,
        at_least=0,
        below=1,
    )
    rejects: int = setting(
        "Pairs in the random sample of those left out (rejected.tsv.zst).", 1000, unit="pairs", at_least=0
    )
