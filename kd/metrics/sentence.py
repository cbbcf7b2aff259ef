"""Sentence-level scores for selecting hypotheses from n-best lists.

BLEU and chrF are bit-identical to sacreBLEU's and carry its signature. Compiled code counts the matches; sacreBLEU's
own functions, or the same operations in the same order, turn the counts into scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.utils import my_log

from kd.base.errors import UserError
from kd.metrics.consensus import Consensus, Utility
from kd.recipe.schema import SCORED, SelectConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Value = TypeVar("Value")
_Maker = Callable[[SelectConfig, Mapping[str, str]], "SentenceMetric"]  # settings and signatures of given scores

REMEMBERED = 1 << 17  # scores by their counts: about 20 MB


class Candidates(NamedTuple):
    """An n-best list with its reference and given scores; scores are in the order of ranks."""

    hypotheses: Sequence[str]  # detokenised
    reference: str
    model_scores: Sequence[float] = ()
    # By metric, higher is better: `external` for scores made elsewhere, and the metrics of the stage `score`.
    given: Mapping[str, Sequence[float]] = MappingProxyType({})
    limited: Sequence[bool] = ()  # whether the search ended each at the longest output; empty if unknown
    origins: Sequence[Sequence[str]] = ()  # members of a mixture that each comes from; empty for other lists


class SentenceMetric(Utility, Protocol):
    """The interface of a metric for selection; its name is a value of `select.metric`."""

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Return one score per hypothesis of each list; higher is better. A few hundred lists per call are fastest."""
        ...


# --- sacreBLEU's metrics, counted by compiled code ----------------------------------------------------------------


class SentenceBleu:
    """Sentence BLEU with effective order: n-gram orders longer than the hypothesis do not count."""

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
        """Return scores from 0 to 100 (100.00000000000004 for some exact matches, as in sacreBLEU)."""
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
        """Compute the score by the operations of `BLEU.compute_bleu` in their order, without building its record."""
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
    """chrF: F-score of character n-grams (Popović, 2015), and of word n-grams in chrF++ (Popović, 2017)."""

    name = "chrf"
    bin_width = 10.0

    def __init__(self, metric: CHRF) -> None:
        self._metric = metric
        self._remembered: dict[bytes, float] = {}
        self.signature = _signature(metric)

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Return scores from 0 to 100."""
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
    """Return sacreBLEU's chrF statistics: per order, the numbers of n-grams in hypothesis, reference, and both."""
    statistics = []
    if counts:
        hypothesis, reference, *matches = counts
        for before, shared in enumerate(matches):
            wanted = max(0, reference - before)
            statistics += [max(0, hypothesis - before) if wanted else 0, wanted, shared]
    return statistics


def _signature(metric: BLEU | CHRF) -> str:
    # sacreBLEU sets the number of references, a part of the signature, when it scores for the first time.
    metric.sentence_score("a", ["a"])
    return str(metric.get_signature().format())


def _lines(lists: Sequence[Candidates], lowercase: bool) -> tuple[list[str], list[int]]:
    """Return all lines, each list's reference then its hypotheses, and the number of hypotheses per list."""
    lines: list[str] = []
    for candidates in lists:
        lines.append(candidates.reference)
        lines += candidates.hypotheses
    return [line.lower() for line in lines] if lowercase else lines, [len(item.hypotheses) for item in lists]


def _decoded(lines: list[str]) -> list[str]:
    """Apply the first steps of mteval-v13a, as in sacreBLEU's tokenizer_13a.py; compiled code does the rest."""
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
    """Return the counts of `count_matches` for lines of text."""
    import numpy as np

    from kd.metrics.compiled import count_matches

    bounds = np.zeros(len(lines) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)), out=bounds[1:])
    text = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), np.uint32)
    return count_matches(text, bounds, np.array(sizes, np.int64), mode, order)


def _remembering(
    counts: NDArray[np.int32], score: Callable[[list[int]], float], known: dict[bytes, float]
) -> list[float]:
    """Return the score of each row; scores of earlier equal rows are looked up."""
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


# --- scores that come with the lists, and several metrics together ---------------------------------------------------


class GivenScore:
    """Scores given with the lists: the teachers' own, or those of another program or stage."""

    def __init__(
        self, name: str, bin_width: float, of: Callable[[Candidates], Sequence[float]], signature: str = ""
    ) -> None:
        self.name = name
        self.signature = signature or name
        self.bin_width = bin_width
        self._of = of

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Return the scores unchanged. Raise ValueError if their number differs from that of the hypotheses."""
        return [_as_many(item, self._of(item), f"{self.name} scores") for item in lists]


def _as_many(candidates: Candidates, scores: Sequence[float], what: str) -> list[float]:
    if len(scores) != len(candidates.hypotheses):
        raise ValueError(f"{len(candidates.hypotheses)} hypotheses and {len(scores)} {what}")
    return list(scores)


class Mix:
    """A weighted sum of metrics, each on its own scale: BLEU and chrF from 0 to 100, model scores below 0."""

    name = "mix"

    def __init__(self, parts: Sequence[tuple[float, SentenceMetric]]) -> None:
        self._parts = parts
        self.signature = " + ".join(f"{weight:g} * ({metric.name} {metric.signature})" for weight, metric in parts)
        self.bin_width = max(abs(weight) * metric.bin_width for weight, metric in parts)

    def scores(self, lists: Sequence[Candidates]) -> list[list[float]]:
        """Return the weighted sums, added in the order in which the recipe names the metrics."""
        totals = [[0.0] * len(item.hypotheses) for item in lists]
        for weight, metric in self._parts:
            for total, values in zip(totals, metric.scores(lists), strict=True):
                for rank, value in enumerate(values):
                    total[rank] += weight * value
        return totals


# --- by name ------------------------------------------------------------------------------------------------------


def sentence_metric(config: SelectConfig, signatures: Mapping[str, str] = MappingProxyType({})) -> SentenceMetric:
    """Make the metric that `select` asks for.

    Args:
        config: The settings of selection.
        signatures: Signatures of the metrics whose scores come with the lists, by name.

    Raises:
        UserError: An unknown metric, tokeniser or smoothing, a weight of 0, or a tokeniser that cannot be loaded.
    """
    return _choice(_METRICS, config.metric, "select.metric")(config, signatures)


def metrics_used(config: SelectConfig) -> list[str]:
    """Return the names of the metrics that selection uses: one, or those of a mix."""
    return list(config.mix) if config.metric == "mix" else [config.metric]


def uses_external_scores(config: SelectConfig) -> bool:
    """Return whether the metric reads scores that were made elsewhere."""
    return "external" in metrics_used(config)


def scored_metrics(config: SelectConfig) -> list[str]:
    """Return the metrics whose scores the stage `score` computes."""
    return [name for name in metrics_used(config) if name in SCORED]


def _bleu(config: SelectConfig, _: Mapping[str, str]) -> SentenceMetric:
    _choice(BLEU.SMOOTH_DEFAULTS, config.smoothing, "select.smoothing")
    tokenizer = config.tokenizer or "13a"
    _choice(dict.fromkeys(BLEU.TOKENIZERS), tokenizer, "select.tokenizer")
    value = config.smooth_value
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise UserError(f"select.smooth_value is {value}.", "It is added to counts and must be 0 or more.")
    if value is not None and value == int(value):
        value = int(value)  # so that the signature and the arithmetic are those of sacreBLEU's own default, 1
    try:
        metric = BLEU(
            effective_order=True,
            lowercase=config.lowercase,
            smooth_method=config.smoothing,
            smooth_value=value,
            tokenize=tokenizer,
        )
    except (ImportError, RuntimeError, OSError) as error:  # a missing package, or a model that cannot be downloaded
        reason = " ".join(str(error).split())
        raise UserError(
            f"sacreBLEU's tokeniser {tokenizer!r} (select.tokenizer) cannot be used here: {reason}",
            "Install or download its data, or set select.tokenizer=13a.",
        ) from error
    return SentenceBleu(metric)


def _chrf(config: SelectConfig, _: Mapping[str, str]) -> SentenceMetric:
    if config.word_order < 0:
        raise UserError(f"select.word_order is {config.word_order}.", "Set it to 0 for chrF, or 2 for chrF++.")
    return SentenceChrf(CHRF(word_order=config.word_order, lowercase=config.lowercase))


def _consensus(of: _Maker, config: SelectConfig, signatures: Mapping[str, str]) -> SentenceMetric:
    """Make a minimum Bayes risk metric with another metric as its utility."""
    return Consensus(of(config, signatures))


def _given(name: str, bin_width: float, _: SelectConfig, signatures: Mapping[str, str]) -> SentenceMetric:
    return GivenScore(name, bin_width, lambda item: item.given.get(name, ()), signatures.get(name, ""))


def _mix(config: SelectConfig, signatures: Mapping[str, str]) -> SentenceMetric:
    if not config.mix:
        raise UserError(
            "select.metric is mix but select.mix is empty.", "Choose select=mix, or set weights: +select.mix.bleu=0.5."
        )
    for name, weight in config.mix.items():
        if name == "mix" or name not in _METRICS:
            others = ", ".join(other for other in _METRICS if other != "mix")
            raise UserError(f"There is no metric {name} to mix (select.mix.{name}).", f"Choose among: {others}.")
        if not math.isfinite(weight) or not weight:
            raise UserError(f"select.mix.{name} is {weight}.", "Set it to a number other than 0.")
    return Mix([(weight, _METRICS[name](config, signatures)) for name, weight in config.mix.items()])


_METRICS: dict[str, _Maker] = {
    "bleu": _bleu,
    "chrf": _chrf,
    "mbr_bleu": partial(_consensus, _bleu),
    "mbr_chrf": partial(_consensus, _chrf),
    "comet": partial(_given, "comet", 0.05),
    "qe": partial(_given, "qe", 0.05),
    "mbr_comet": partial(_given, "mbr_comet", 0.05),
    "backward": partial(_given, "backward", 0.25),
    "model": lambda *_: GivenScore("model", 0.25, lambda item: item.model_scores),
    "external": partial(_given, "external", 0.05),
    "mix": _mix,
}


def _choice(choices: Mapping[str, Value], name: str, key: str) -> Value:
    """Return the choice of this name. Raise UserError for an unknown one."""
    if name not in choices:
        raise UserError(f"There is no {key}={name}.", f"Choose one of: {', '.join(choices)}.")
    return choices[name]
