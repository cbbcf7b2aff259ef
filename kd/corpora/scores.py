"""Files of scores made elsewhere, one number a line of an n-best list in the same order: COMET-QE's and the like."""

from __future__ import annotations

import math
from pathlib import Path

from kd.base.errors import UserError
from kd.corpora.lines import PathLike, open_text


class ScoreFile:
    """Reads scores in step with n-best lists; a file with a number too many or too few is refused."""

    def __init__(self, path: PathLike) -> None:
        """Raises UserError if the file is missing."""
        self.path = Path(path)
        self._lines = open_text(path)
        self._line = 0

    def take(self, count: int) -> list[float]:
        """The next scores. Raises UserError, naming the line, if one is missing or no number."""
        return [self._next() for _ in range(count)]

    def _next(self) -> float:
        text = next(self._lines, None)
        if text is None:
            raise UserError(
                f"{self.path} ends after line {self._line}, and the n-best list goes on.",
                "It needs one number for each line of the list.",
            )
        self._line += 1
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise UserError(f"{self.path}, line {self._line}: {text[:40]!r} is no score.", "Make the file again.")
        return value

    def finish(self) -> None:
        """Raises UserError if scores are left over."""
        if next(self._lines, None) is not None:
            raise UserError(
                f"{self.path} goes on after line {self._line}, where the n-best list ends.",
                "It needs one number for each line of the list.",
            )
