"""Counts, samples and bounds the broken rows of a corpus that `corpus.on_error=skip` leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kd.base.errors import UserError
from kd.corpora.ids import Pair
from kd.corpora.lines import BrokenRow, PathLike
from kd.corpora.rejects import Sample

SAMPLED = 100  # rows a reason
FREE = 100  # rows that may be skipped whatever their share: small files


class Skips:
    """The broken rows of one corpus.

    Attributes:
        counts: Rows by reason.
        first: Position of the first skipped row and the reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first = ""
        self._sample = Sample(SAMPLED)

    def take(self, error: BrokenRow, texts: Sequence[str]) -> None:
        """Count a row. texts: its source and target, or its whole text if the sides cannot be told apart."""
        self.counts[error.reason] += 1
        self.first = self.first or error.problem
        source, target = (*texts, "", "")[:2]
        self._sample.add(error.reason, Pair(error.line, source, target))

    def check(self, name: str, kept: int, share: float) -> None:
        """Raise UserError if more than `share` of a corpus was skipped, and more than `FREE` rows.

        Args:
            name: The name of the corpus in the recipe.
            kept: Number of intact rows.
            share: The largest share of all rows, 0 to 1.
        """
        skipped = self.counts.total()
        if skipped > max(FREE, share * (kept + skipped)):
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.counts.most_common())
            raise UserError(
                f"{skipped:,} of {kept + skipped:,} rows of corpus.sources.{name} are broken ({reasons}), more than "
                f"corpus.skip_share={share} allows. The first: {self.first}",
                "Correct the file, or raise corpus.skip_share.",
            )

    def write(self, path: PathLike) -> None:
        """Write the sample in the format of `rejected.tsv.zst`; the id is the line number in the file."""
        self._sample.write(path)
