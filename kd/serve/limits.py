"""The limits of the server, and its error responses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits on requests.

    Attributes:
        characters: Characters in all texts of a request.
        texts: Texts in a request.
        waiting: Requests that wait or are being translated; a further one is answered with status 503.
        seconds: Until a request that is not finished is answered with status 504.
        reading: Seconds within which a request has to arrive.
    """

    characters: int = 10_000
    texts: int = 500
    waiting: int = 256
    seconds: float = 60.0
    reading: float = 10.0

    @property
    def body(self) -> int:
        """The largest body in bytes: a character takes up to 12 in a form, and each part of a form has its headers."""
        return 12 * self.characters + 200 * self.texts + 20_000


class Refused(Exception):
    """A request is refused: a status and a sentence for the client."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
