"""Records of a search: its cells with their scores and speeds, the Pareto front, and what the rule chose.

`choose` leaves one as JSON, and the report shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CellScore:
    """A metric on dev, over the seeds of a cell."""

    metric: str
    values: list[float]  # one a seed, unrounded
    mean: float
    spread: float | None = None  # standard deviation over seeds (n - 1); None of one seed


@dataclass(frozen=True)
class CellForm:
    """A cell as it was exported to a number format; None: not measured."""

    format: str
    scores: list[CellScore]
    sentences_per_second: float | None = None  # on one core
    sentences_per_second_all_cores: float | None = None
    latency_ms: float | None = None  # of a sentence alone, on one core: the median
    latency_p99_ms: float | None = None
    memory_megabytes: float | None = None
    megabytes: float | None = None  # on disk
    on_front: bool = False  # no other cell and format is better and as fast, or faster and as good

    def score(self, metric: str) -> CellScore | None:
        """The score of that name, if there is one."""
        return next((score for score in self.scores if score.metric == metric), None)


@dataclass(frozen=True)
class SearchCell:
    """An architecture, and what it learned from."""

    name: str
    shape: str  # encoder layers, decoder layers, width
    data: str
    model: dict[str, int]  # encoder_layers, decoder_layers, width, ffn, heads
    parameters: int
    seeds: list[int]
    updates: int  # of each seed
    forms: list[CellForm]


@dataclass(frozen=True)
class Chosen:
    """What the student is trained as."""

    name: str
    shape: str
    data: str
    model: dict[str, int]


@dataclass(frozen=True)
class Search:
    """A search with its outcome."""

    chosen: Chosen
    best: str  # the cell with the best mean
    metric: str  # as scores name it: BLEU
    speed: str  # one_core | all_cores | latency | latency_p99
    format: str  # of quality and speed in the rule
    loss_allowed: float
    rule: str  # in words
    doubts: list[str] = field(default_factory=list)
    cells: list[SearchCell] = field(default_factory=list)
    held_out: str = ""  # in words: what was scored
    signatures: dict[str, str] = field(default_factory=dict)
    speed_note: str = ""
    once_a_shape: bool = False  # speed was measured of one cell of each shape
    pair: str = ""  # language pair; the report leaves it empty where there is one
