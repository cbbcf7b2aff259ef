"""Scores of single sentences, by which one hypothesis of each n-best list is selected for the student to learn.

BLEU and chrF equal sacreBLEU's to the last bit and carry its signature: matches are counted by compiled code, and the
counts become a score in sacreBLEU's own functions, as Python's version adds and rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.utils import my_log

from kd.base.errors import UserError
from kd.recipe.schema import SelectConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Value = TypeVar("Value")

REMEMBERED = 1 << 17  # scores by their counts: about 20 MB


class Candidates(NamedTuple):
    """An n-best list with what it is judged by; one score a hypothesis, in the order of their ranks."""

    hypotheses: Sequence[str]  # detokenised
    reference: str
    model_scores: Sequence[float] = ()
    external_scores: Sequence[float] = ()  # somebody else's, such as COMET-QE's; higher is better


class SentenceMetric(Protocol):
    """What selection needs of a metric."""

    @property
    def name(self) -> str:
        """The name a recipe gives it: `select.metric`."""
        ...

    @property
    def signature(self) -> str:
        """What makes the scores reproducible, in sacreBLEU's notation."""
        ...

    @property
    def bin_width(self) -> float:
        """Of histograms of its scores."""
        ...

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Score every hypothesis of every list; higher is better. Some hundred lists at once go fastest."""
        ...


# --- sacreBLEU's metrics, counted by compiled code ----------------------------------------------------------------


class SentenceBleu:
    """Sentence BLEU with effective order: n-gram orders that a short hypothesis cannot have do not count."""

    name = "bleu"
    bin_width = 10.0

    def __init__(self, metric: BLEU) -> None:
        self._metric = metric
        self._tokenizer: str = metric.tokenizer.signature()
        value = metric.smooth_value
        self._value = (metric.SMOOTH_DEFAULTS[metric.smooth_method] if value is None else value) or 0
        self._remembered: dict[bytes, float] = {}
        self.signature = _signature(metric)

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Score from 0 to 100 (an exact match may get 100.00000000000004, as in sacreBLEU)."""
        from kd.metrics.compiled import CHARACTERS, MTEVAL13A, WORDS

        lines, sizes = _lines(lists, self._metric.lowercase)
        mode = {"13a": MTEVAL13A, "none": WORDS, "char": CHARACTERS}.get(self._tokenizer)
        if mode is None:
            tokenize = self._metric.tokenizer
            lines, mode = [tokenize(line.rstrip()) for line in lines], WORDS
        elif mode == MTEVAL13A:
            lines = _decoded(lines)
        counts = _matches(lines, sizes, mode, self._metric.max_ngram_order)
        return _cut_up(_remembering(counts, self._score, self._remembered), sizes)

    def _score(self, counts: list[int]) -> float:
        """`BLEU.compute_bleu` without the record that it makes: the same operations in the same order."""
        hypothesis, reference, *correct = counts
        if not any(correct):
            return 0.0
        method, value = self._metric.smooth_method, self._value
        smooth_mteval = 1.0
        logarithms = []
        for before, matches in enumerate(correct):
            shared: float = matches
            total: float = hypothesis - before if hypothesis > before else 0
            if method == "add-k" and before:
                shared, total = shared + value, total + value
            if not total:
                break
            if shared:
                logarithms.append(math.log(100.0 * shared / total))
            elif method == "exp":
                smooth_mteval *= 2
                logarithms.append(math.log(100.0 / (smooth_mteval * total)))
            else:
                logarithms.append(my_log(100.0 * value / total if method == "floor" else 0.0))
        penalty = math.exp(1 - reference / hypothesis) if hypothesis < reference else 1.0
        # `sum` and no other addition: from Python 3.12 on it compensates for rounding.
        return penalty * math.exp(sum(logarithms) / len(logarithms))


class SentenceChrf:
    """chrF: F-score of character n-grams (Popović, 2015), of words too in chrF++ (Popović, 2017)."""

    name = "chrf"
    bin_width = 10.0

    def __init__(self, metric: CHRF) -> None:
        self._metric = metric
        self._remembered: dict[bytes, float] = {}
        self.signature = _signature(metric)

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Score from 0 to 100."""
        import numpy as np

        from kd.metrics.compiled import CHARACTERS, WORDS

        lines, sizes = _lines(lists, self._metric.lowercase)
        counts = _matches(lines, sizes, CHARACTERS, self._metric.char_order)
        if self._metric.word_order:
            words = [" ".join(self._metric._remove_punctuation(line)) for line in lines]
            counts = np.hstack([counts, _matches(words, sizes, WORDS, self._metric.word_order)])
        return _cut_up(_remembering(counts, self._score, self._remembered), sizes)

    def _score(self, counts: list[int]) -> float:
        characters = 2 + self._metric.char_order
        statistics = [*_statistics(counts[:characters]), *_statistics(counts[characters:])]
        return float(self._metric._compute_f_score(statistics))


def _statistics(counts: list[int]) -> list[int]:
    """What sacreBLEU's chrF calls so, three numbers an order: n-grams of the hypothesis, of the reference, shared."""
    statistics = []
    if counts:
        hypothesis, reference, *matches = counts
        for before, shared in enumerate(matches):
            wanted = max(0, reference - before)
            statistics += [max(0, hypothesis - before) if wanted else 0, wanted, shared]
    return statistics


def _signature(metric: BLEU | CHRF) -> str:
    # sacreBLEU knows the number of references, which is part of the signature, only after it has scored something.
    metric.sentence_score("a", ["a"])
    return str(metric.get_signature().format())


def _lines(lists: Sequence[Candidates], lowercase: bool) -> tuple[list[str], list[int]]:
    """Each list's reference and hypotheses, and how many hypotheses it has."""
    lines: list[str] = []
    for candidates in lists:
        lines.append(candidates.reference)
        lines += candidates.hypotheses
    return [line.lower() for line in lines] if lowercase else lines, [len(item.hypotheses) for item in lists]


def _decoded(lines: list[str]) -> list[str]:
    """The first steps of mteval-v13a, in the words of sacreBLEU's tokenizer_13a.py; what is left is done compiled."""
    text = "\n".join(lines)
    if text.count("\n") >= len(lines):  # a line break within a line
        lines = [line.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ") for line in lines]
    elif "<skipped>" in text:
        lines = [line.replace("<skipped>", "") for line in lines]
    elif "&" not in text:
        return lines
    return [_entities(line) if "&" in line else line for line in lines]


def _entities(line: str) -> str:
    return line.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")


def _matches(lines: Sequence[str], sizes: Sequence[int], mode: int, order: int) -> NDArray[np.int32]:
    """What `count_matches` counts in lines of text."""
    import numpy as np

    from kd.metrics.compiled import count_matches

    bounds = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=bounds[1:])
    text = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), np.uint32)
    return count_matches(text, bounds, np.array(sizes, np.int64), mode, order)


def _remembering(
    counts: NDArray[np.int32], score: Callable[[list[int]], float], known: dict[bytes, float]
) -> list[float]:
    """The score of each row; rows that were there before are looked up."""
    import numpy as np

    keys: list[Any] = (
        np.ascontiguousarray(counts).view(np.dtype((np.void, counts.itemsize * counts.shape[1])))[:, 0].tolist()
    )
    found = list(map(known.get, keys))
    for place, value in enumerate(found):
        if value is None:
            key = keys[place]
            value = known.get(key)
            if value is None:
                if len(known) >= REMEMBERED:
                    known.clear()
                value = known[key] = score(counts[place].tolist())
            found[place] = value
    return found  # type: ignore[return-value]


def _cut_up(scores: list[float], sizes: Sequence[int]) -> list[list[float]]:
    lists, first = [], 0
    for size in sizes:
        lists.append(scores[first : first + size])
        first += size
    return lists


# --- other people's scores, and several together ------------------------------------------------------------------


class GivenScore:
    """Scores that lists come with: the teacher's own (its best hypothesis wins), or somebody else's."""

    def __init__(self, name: str, bin_width: float, of: Callable[[Candidates], Sequence[float]]) -> None:
        self.name = self.signature = name
        self.bin_width = bin_width
        self._of = of

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """The scores as they came. Raises ValueError where there are not as many as hypotheses."""
        return [_as_many(item, self._of(item), f"{self.name} scores") for item in lists]


def _as_many(candidates: Candidates, scores: Sequence[float], what: str) -> list[float]:
    if len(scores) != len(candidates.hypotheses):
        raise ValueError(f"{len(candidates.hypotheses)} hypotheses and {len(scores)} {what}")
    return list(scores)


class Mix:
    """A weighted sum of metrics, each on its own scale: BLEU and chrF from 0 to 100, the model's below 0."""

    name = "mix"

    def __init__(self, parts: Sequence[tuple[float, SentenceMetric]]) -> None:
        self._parts = parts
        self.signature = " + ".join(f"{weight:g} * ({metric.name} {metric.signature})" for weight, metric in parts)
        self.bin_width = max(abs(weight) * metric.bin_width for weight, metric in parts)

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Add up, in the order in which the recipe names the metrics."""
        totals = [[0.0] * len(item.hypotheses) for item in lists]
        for weight, metric in self._parts:
            for total, values in zip(totals, metric.scores(lists), strict=True):
                for rank, value in enumerate(values):
                    total[rank] += weight * value
        return totals


# --- by name ------------------------------------------------------------------------------------------------------


def sentence_metric(config: SelectConfig) -> SentenceMetric:
    """Make the metric that `select` asks for.

    Raises UserError for an unknown metric, tokeniser or smoothing, a weight that is none, or a tokeniser that cannot be
    had here.
    """
    return _choice(_METRICS, config.metric, "select.metric")(config)


def uses_external_scores(config: SelectConfig) -> bool:
    """Whether the metric is, or mixes in, scores made elsewhere."""
    return config.metric == "external" or (config.metric == "mix" and "external" in config.mix)


def _bleu(config: SelectConfig) -> SentenceMetric:
    _choice(BLEU.SMOOTH_DEFAULTS, config.smoothing, "select.smoothing")
    _choice(dict.fromkeys(BLEU.TOKENIZERS), config.tokenizer, "select.tokenizer")
    value = config.smooth_value
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise UserError(f"select.smooth_value is {value}.", "It is added to counts: 0 or more.")
    if value is not None and value == int(value):
        value = int(value)  # so that the signature and the arithmetic are those of sacreBLEU's own default, 1
    try:
        metric = BLEU(
            effective_order=True,
            lowercase=config.lowercase,
            smooth_method=config.smoothing,
            smooth_value=value,
            tokenize=config.tokenizer,
        )
    except (ImportError, RuntimeError, OSError) as error:  # a missing package, or a model that cannot be downloaded
        reason = " ".join(str(error).split())
        raise UserError(
            f"sacreBLEU's tokeniser {config.tokenizer!r} (select.tokenizer) cannot be used here: {reason}",
            "Install or download what it needs, or set select.tokenizer=13a.",
        ) from error
    return SentenceBleu(metric)


def _chrf(config: SelectConfig) -> SentenceMetric:
    if config.word_order < 0:
        raise UserError(f"select.word_order is {config.word_order}.", "It is 0 for chrF, 2 for chrF++.")
    return SentenceChrf(CHRF(word_order=config.word_order, lowercase=config.lowercase))


def _consensus(of: Callable[[SelectConfig], SentenceMetric]) -> Callable[[SelectConfig], SentenceMetric]:
    """Make minimum Bayes risk with a metric as its utility."""

    def metric(config: SelectConfig) -> SentenceMetric:
        from kd.metrics.consensus import Consensus

        return Consensus(of(config))

    return metric


def _mix(config: SelectConfig) -> SentenceMetric:
    if not config.mix:
        raise UserError(
            "select.metric=mix has nothing to mix.", "Choose select=mix, or name metrics and weights below select.mix."
        )
    for name, weight in config.mix.items():
        if name == "mix" or name not in _METRICS:
            others = ", ".join(other for other in _METRICS if other != "mix")
            raise UserError(f"There is no metric {name} to mix (select.mix.{name}).", f"Choose among: {others}.")
        if not math.isfinite(weight) or not weight:
            raise UserError(f"select.mix.{name} is {weight}.", "A weight is a number other than 0.")
    return Mix([(weight, _METRICS[name](config)) for name, weight in config.mix.items()])


_METRICS: dict[str, Callable[[SelectConfig], SentenceMetric]] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "mbr_bleu": _consensus(_bleu),
    "mbr_chrf": _consensus(_chrf),
    "model": lambda _: GivenScore("model", 0.25, lambda item: item.model_scores),
    "external": lambda _: GivenScore("external", 0.05, lambda item: item.external_scores),
    "mix": _mix,
}


def _choice(choices: Mapping[str, Value], name: str, key: str) -> Value:
    """Look a setting up among those there are."""
    if name not in choices:
        raise UserError(f"There is no {key}={name}.", f"Choose one of: {', '.join(choices)}.")
    return choices[name]
