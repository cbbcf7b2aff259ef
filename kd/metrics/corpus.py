"""Score a system's complete output against one or several references: sacreBLEU's scores, unrounded, with signatures.

Sides of unequal length are refused, since sacreBLEU would cut the longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from kd.base.errors import UserError
from kd.models.languages import bleu_tokenizer, primary

References = Sequence[Sequence[str]]
EXTRAS = {"ja": "ja-mecab", "ko": "ko-mecab"}
"""Languages whose tokeniser is an extra of kd with the same name -> sacreBLEU's name of the tokeniser."""


@dataclass(frozen=True)
class Options:
    """Settings of sacreBLEU, as stated in its signatures; the defaults are sacreBLEU's."""

    tokenize: str | None = None  # of BLEU, by sacreBLEU's name; None: its default for the language
    language: str = ""  # BCP-47 code of the target language; zh, ja and ko have other default tokenisers than 13a


DEFAULTS = Options()

METRICS: dict[str, Callable[[Options, References | None], Metric]] = {
    "bleu": lambda *settings: _bleu(*settings),  # noqa: PLW0108 -- it stands further below
    "chrf": lambda _, references: CHRF(references=references),
    "chrf++": lambda _, references: CHRF(word_order=2, references=references),
    "ter": lambda _, references: TER(references=references),
}
"""The metrics by their names in settings; sacreBLEU names the scores ("BLEU", "chrF2", "TER")."""


@dataclass(frozen=True)
class Score:
    """A score of one system on one test set."""

    metric: str  # BLEU | chrF2 | chrF2++ | TER
    value: float  # unrounded; 0 to 100 for BLEU and chrF2, TER may exceed 100
    signature: str  # sacreBLEU's


def corpus_scores(
    hypotheses: Sequence[str],
    references: References,
    metrics: Iterable[str] = ("bleu", "chrf"),
    options: Options = DEFAULTS,
) -> list[Score]:
    """Score a system's detokenised output against references; all have one line per segment.

    Raises:
        UserError: The metric is unknown, the output is empty, there is no reference, or sides differ in length.
    """
    check_aligned({"output": hypotheses}, references)
    scores = []
    for metric in sacrebleu_metrics(metrics, options, references).values():
        score = metric.corpus_score(hypotheses, None)
        scores.append(Score(score.name, score.score, metric.get_signature().format()))
    return scores


def sacrebleu_metrics(
    names: Iterable[str], options: Options = DEFAULTS, references: References | None = None
) -> dict[str, Metric]:
    """Make sacreBLEU's metrics, by name. If `references` are given, their n-grams are counted once for all systems.

    Raises:
        UserError: A metric or tokeniser is unknown, or cannot be loaded.
    """
    made = {}
    for name in names:
        if name not in METRICS:
            raise UserError(f"There is no metric {name!r}.", f"Choose among: {', '.join(METRICS)}.")
        made[name] = METRICS[name](options, references)
    return made


def _bleu(options: Options, references: References | None) -> BLEU:
    if options.tokenize is not None and options.tokenize not in BLEU.TOKENIZERS:
        raise UserError(f"There is no tokeniser {options.tokenize!r}.", f"Choose one of: {', '.join(BLEU.TOKENIZERS)}.")
    language = primary(options.language)
    try:
        tokenize = options.tokenize or bleu_tokenizer(language)
        return BLEU(tokenize=tokenize, trg_lang=language, references=references)
    except (ImportError, RuntimeError, OSError) as error:  # a missing package, or a model that cannot be downloaded
        name = options.tokenize or f"for {language}"
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"sacreBLEU's tokeniser {name} cannot be used here: {reason}.",
            f"{_remedy(language, options)} or choose another tokeniser, such as char.",
        ) from error


def _remedy(language: str, options: Options) -> str:
    extra = next((each for each, name in EXTRAS.items() if name == options.tokenize), options.tokenize or language)
    if extra in EXTRAS:
        return f"Install the extra {extra}, `pip install 'kd[{extra}]'`,"
    return "Install or download its data,"


def present(texts: Sequence[str]) -> tuple[str, ...]:
    """Return a segment's non-blank references: a blank line beside others means a missing reference."""
    return tuple(text for text in texts if text.strip()) or tuple(texts)


def check_aligned(systems: Mapping[str, Sequence[str]], sides: References, first: str = "the reference") -> None:
    """Check that every system's output and every side has the same number of lines.

    Args:
        systems: Outputs by name.
        sides: The references, or another side and then the references.
        first: Name of the first side for messages.

    Raises:
        UserError: There is no side, one is empty, or lengths differ.
    """
    if not sides:
        raise UserError("There is no reference to score against.", "Give at least one.")
    segments = len(sides[0])
    if not segments:
        name = first.replace("the ", "The ", 1) if first.startswith("the ") else first  # a file's name stays as it is
        raise UserError(f"{name} is empty.", "Give one with a line for each segment.")
    before, begin = ("the first", 2) if first == "the reference" else (first, 1)
    for number, side in enumerate(sides[1:], start=begin):
        if len(side) != segments:
            raise UserError(
                f"Reference {number} has {len(side):,} lines, but {before} has {segments:,}.",
                "Give references that are aligned line by line.",
            )
    for name, lines in systems.items():
        if len(lines) != segments:
            raise UserError(
                f"{name} has {len(lines):,} lines, but {first} has {segments:,}.",
                "Give one line of output for each segment; only \\n ends a line.",
            )
