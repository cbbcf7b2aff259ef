"""Records of the data: what each stage let through, and whether what is tested on stood in what was trained on.

Counts are sentence pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FlowStep:
    """What a stage let through of the corpus."""

    stage: str
    entered: int  # sentence pairs
    left: int
    dropped: dict[str, int] = field(default_factory=dict)  # by reason


@dataclass(frozen=True)
class LeakedSet:
    """How many training pairs match a held-out set, over all training corpora; each pair counts once a set."""

    name: str  # en-de test
    segments: int
    both: int = 0  # hold both sides of a segment
    source: int = 0  # its source alone
    target: int = 0  # its target alone


@dataclass(frozen=True)
class LeakedCorpus:
    """What the leakage guard did to the training corpus of a language pair."""

    pair: str
    mode: str  # remove | fail | off
    removed: int  # training pairs


@dataclass(frozen=True)
class Leakage:
    """Whether what the systems are tested on stood in what they were trained on."""

    corpora: list[LeakedCorpus] = field(default_factory=list)
    sets: list[LeakedSet] = field(default_factory=list)
    one_sided_words: int = 0  # a sentence that alone is a match has more
    warnings: dict[str, str] = field(default_factory=dict)  # training corpus that is a test set by its name -> which
    # Selected teacher outputs that are a test reference of another source than theirs; None: not looked for.
    reproduced_outputs: int | None = None
    reproduced_references: int | None = None

    @property
    def off(self) -> list[str]:
        """The language pairs whose training corpora were not looked at."""
        return [corpus.pair for corpus in self.corpora if corpus.mode == "off"]

    @property
    def verdict(self) -> str:
        """In a few words: OFF, clean, removed 12, and of what; of a test set alone there are fewer."""
        removed = sum(corpus.removed for corpus in self.corpora)
        if self.off:
            return "OFF"
        return f"removed {removed:,} (training pairs that match any dev or test set)" if removed else "clean"
