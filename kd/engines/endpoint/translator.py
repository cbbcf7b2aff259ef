"""Translate with a language model behind a server: request translations of each source as an n-best list.

Without log-probabilities all scores are 0, and a list has the order of the server's answers.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any

from kd.base.errors import UserError
from kd.corpora.answers import clean
from kd.engines.endpoint.client import Choice, Client, Rejected
from kd.engines.endpoint.description import Endpoint
from kd.engines.endpoint.journal import Answers, Journal
from kd.engines.hypotheses import LONGEST_OUTPUT, Hypothesis
from kd.models.language_names import name_of
from kd.models.languages import primary

FREE = 20  # sources without a usable answer that are allowed whatever their share: small shards
ALL_UNUSABLE = "sources without a usable answer"
_SHOWN = 120  # characters of an answer in a message


@dataclass(frozen=True)
class Drawing:
    """The settings of sampling.

    Attributes:
        seed: Seed and source determine the seed of a request; a server that supports seeds then repeats its answer.
        temperature: Divides the logits.
        top_p: Total probability of the tokens to draw from.
        top: Number of tokens to draw from; 0: no limit. OpenAI's servers do not support it.
    """

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top: int = 0


class EndpointTranslator:
    """A teacher behind a server.

    Args:
        endpoint: The teacher.
        nbest: Answers to each source; more than one needs `drawing`.
        drawing: The settings of sampling; None: the most probable token at each step (temperature 0).
        max_pieces: Longest answer in the model's own tokens; None: 256.
        length_penalty: Exponent of the number of tokens that scores are divided by.

    Attributes:
        counts: Numbers of answers and sources by their treatment, over all calls.
    """

    members = 1

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        nbest: int = 1,
        drawing: Drawing | None = None,
        max_pieces: int | None = None,
        length_penalty: float = 1.0,
    ) -> None:
        if nbest > 1 and drawing is None:
            raise ValueError("several answers to a source are samples")
        self.endpoint = endpoint
        self.counts: Counter[str] = Counter()
        self.max_pieces = max_pieces or LONGEST_OUTPUT
        self._nbest, self._drawing, self._length_penalty = nbest, drawing, length_penalty
        self._client = Client(endpoint)
        self._target = primary(endpoint.languages[1])
        self._name = name_of(endpoint.languages[1])
        self._stopped = threading.Event()

    def translate(
        self,
        sources: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
        journal: Journal | None = None,
    ) -> list[list[Hypothesis]]:
        """Return the list of each source, in order.

        The list of a blank source is one empty hypothesis with score 0. That of a source without a usable answer is one
        empty hypothesis with score minus infinity, as other teachers return for a skipped source.

        Args:
            sources: The texts.
            progress: Called with the number of finished sources and their total.
            journal: Answers of earlier attempts, which are not requested again; new answers are added.

        Raises:
            UserError: The server or too many of its answers cannot be used.
            TransientError: The server no longer answers.
        """
        journal = journal or Journal()
        distinct = list(dict.fromkeys(source for source in sources if source.strip()))
        lists: dict[str, list[Hypothesis]] = {}
        unusable = _Unusable(self.endpoint, len(distinct))
        self.counts["blank"] += sum(not source.strip() for source in sources)
        self._stopped.clear()

        def take(source: str) -> None:
            found = lists[source] = self._list(source, journal.of(source), unusable)
            if not found:
                lists[source] = [Hypothesis("", [], -math.inf, [-math.inf])]
            if progress:
                progress(len(lists), len(distinct))

        pending = [source for source in distinct if self._missing(source, journal)]
        for source in [source for source in distinct if not self._missing(source, journal)]:
            take(source)
        # One alone first: a wrong key or address is then one message, not one of each thread.
        for source in pending[:1]:
            self._ask(source, journal)
            take(source)
        with ThreadPool(max(1, min(self.endpoint.settings.concurrency, len(pending)))) as pool:
            try:
                for source in pool.imap_unordered(lambda one: self._ask(one, journal), pending[1:]):
                    take(source)
            except Exception:
                self._stopped.set()
                pool.close()
                pool.join()  # requests under way are paid for: their answers are awaited and kept
                raise
            finally:
                self._stopped.set()
        self.counts.update({name: number for name, number in unusable.counts.items() if number})
        return [lists[source] if source.strip() else [Hypothesis("", [], 0.0, [0.0])] for source in sources]

    # --- asking ------------------------------------------------------------------------------------------------------

    def _missing(self, source: str, journal: Journal) -> int:
        answers = journal.of(source)
        return 0 if answers.rejected else max(0, self._nbest - len(answers.choices))

    def _ask(self, source: str, journal: Journal) -> str:
        """Ask for the missing answers to a source; return the source."""
        while not self._stopped.is_set() and (missing := self._missing(source, journal)):
            done = len(journal.of(source).choices)
            try:
                count = min(missing, self.endpoint.settings.samples or missing)
                journal.add(source, self._client.complete(source, self._fields(source, done), count))
            except Rejected as error:
                journal.reject(source, str(error))
            except Exception:
                self._stopped.set()  # here, so that no thread sends another request before `translate` hears of it
                raise
        return source

    def _fields(self, source: str, done: int) -> dict[str, Any]:
        """Return the fields of the request for the answers after the first `done`."""
        fields: dict[str, Any] = {"max_tokens": self.max_pieces}
        if self._drawing is None:
            return {**fields, "temperature": 0}
        drawing = self._drawing
        seed = int.from_bytes(hashlib.sha256(f"{drawing.seed} {source}".encode()).digest()[:4]) // 2
        fields |= {"temperature": drawing.temperature, "seed": (seed + done) % 2**31}
        fields |= {"top_p": drawing.top_p} if drawing.top_p < 1 else {}
        return fields | ({"top_k": drawing.top} if drawing.top else {})

    # --- answers -----------------------------------------------------------------------------------------------------

    def _list(self, source: str, answers: Answers, unusable: _Unusable) -> list[Hypothesis]:
        """Return the usable answers, the best first; answers of equal score stay in the server's order."""
        found, problems = [], []
        for choice in answers.choices[: self._nbest]:
            cleaned = clean(source, choice.text, choice.ending, self._target, self._name)
            self.counts.update(f"answers with {what} removed" for what in cleaned.unwrapped)
            if cleaned.problem:
                self.counts[f"answers left out: {cleaned.problem}"] += 1
                problems.append((cleaned.problem, choice.text or ""))
                continue
            score = self._score(choice)
            found.append(Hypothesis(cleaned.text, [], score, [score]))
        if not found:
            unusable.add(problems or [(answers.rejected or "empty", "")])
        return sorted(found, key=lambda each: -each.score)

    def _score(self, choice: Choice) -> float:
        if choice.score is None or not choice.tokens or not math.isfinite(choice.score):
            return 0.0
        return choice.score / float(choice.tokens**self._length_penalty)


class _Unusable:
    """Count sources without a usable answer, and stop the work if there are too many."""

    def __init__(self, endpoint: Endpoint, total: int) -> None:
        self._endpoint = endpoint
        self._most = max(FREE, endpoint.settings.max_unusable * total)
        self._reasons: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, problems: Sequence[tuple[str, str]]) -> None:
        """Count a source with the problems of its answers and their texts."""
        problem, text = problems[0]
        self._reasons[problem] += 1
        self.counts[ALL_UNUSABLE] += 1
        if self.counts[ALL_UNUSABLE] > self._most:
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in self._reasons.most_common())
            shown = " ".join(text.split())[:_SHOWN]
            raise UserError(
                f"{self.counts[ALL_UNUSABLE]:,} sources of a shard have no usable answer ({reasons}), more than "
                f"{self._endpoint.where}.max_unusable={self._endpoint.settings.max_unusable:g} allows. "
                f"The last answer: {shown!r}.",
                f"Change {self._endpoint.where}.prompt, or raise {self._endpoint.where}.max_unusable.",
            )
