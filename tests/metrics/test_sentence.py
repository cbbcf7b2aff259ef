"""Sentence scores and the choice made from them, against sacreBLEU's own functions and against short references."""

import math

import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kd.config import SelectConfig
from kd.errors import UserError
from kd.metrics.sentence import select, sentence_metric


def bleu(smoothing: str = "exp", tokenizer: str = "13a") -> SelectConfig:
    return SelectConfig(metric="bleu", smoothing=smoothing, tokenizer=tokenizer)


CHRF = SelectConfig(metric="chrf", smoothing="exp", tokenizer="13a")
WORDS = [
    "Article",
    "12",
    "§",
    "Yes",
    ".",
    "the",
    "the",
    "don't",
    "3.14",
    "2,5",
    "m²",
    "&amp;",
    "<skipped>",
    "a-b",
    "-",
    "„x“",
]
nasty = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=6).map("".join),
    st.text(max_size=20),
    st.sampled_from(["", " ", "§", "12", "\u0085", "\u2028", "\f", "\r", "\x00", "\u00a0", "a" * 500, "日本語です。"]),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(nasty, max_size=6), nasty, st.sampled_from(["exp", "floor", "add-k", "none"]))
@example(["Article 12", ""], "Article 12", "none")
def test_bleu_equals_sacrebleu_to_the_last_bit(hypotheses: list[str], reference: str, smoothing: str) -> None:
    for tokenizer in ("13a", "none", "char", "intl"):
        expected = [
            sacrebleu.sentence_bleu(
                hypothesis, [reference], smooth_method=smoothing, tokenize=tokenizer, use_effective_order=True
            ).score
            for hypothesis in hypotheses
        ]
        assert sentence_metric(bleu(smoothing, tokenizer)).scores(hypotheses, reference) == expected


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(nasty, max_size=6), nasty)
def test_chrf_equals_sacrebleu_to_the_last_bit(hypotheses: list[str], reference: str) -> None:
    expected = [sacrebleu.sentence_chrf(hypothesis, [reference]).score for hypothesis in hypotheses]
    assert sentence_metric(CHRF).scores(hypotheses, reference) == expected


def test_one_object_scores_many_lists() -> None:
    metric = sentence_metric(bleu())
    first = metric.scores(["a b c d"], "a b c e")
    metric.scores(["x"], "y z")
    assert metric.scores(["a b c d"], "a b c e") == first


def test_scores_are_those_of_sacrebleus_own_tests() -> None:
    # sacreBLEU, test/test_bleu.py (test_case_effective_order): "test" against "a test" is exp(-1), the brevity penalty.
    assert sentence_metric(bleu()).scores(["test"], "a test") == pytest.approx([100 * math.exp(-1)], abs=1e-9)
    # sacreBLEU, test/test_chrf.py (test_cases_effective_order): chrF knows no spaces.
    assert sentence_metric(CHRF).scores(["a b c", ""], "abc") == pytest.approx([100.0, 0.0], abs=1e-9)


def test_signature_is_sacrebleus() -> None:
    version = sacrebleu.__version__
    assert sentence_metric(bleu("floor", "char")).signature == (
        f"nrefs:1|case:mixed|eff:yes|tok:char|smooth:floor[0.10]|version:{version}"
    )
    assert sentence_metric(CHRF).signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"


@pytest.mark.parametrize(
    ("config", "what", "choices"),
    [
        (SelectConfig(metric="blue", smoothing="exp", tokenizer="13a"), "select.metric=blue", "bleu, chrf"),
        (bleu(smoothing="exponential"), "select.smoothing=exponential", "none, floor, add-k, exp"),
        (bleu(tokenizer="moses"), "select.tokenizer=moses", "13a, intl, char"),
    ],
)
def test_unknown_names_list_what_there_is(config: SelectConfig, what: str, choices: str) -> None:
    with pytest.raises(UserError) as error:
        sentence_metric(config)
    assert what in error.value.what
    assert choices in error.value.mend


def test_tokenizer_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> None:
        raise RuntimeError("\nneeds extra\npackages\n")

    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_intl.TokenizerV14International.__init__", unavailable)
    with pytest.raises(UserError, match=r"'intl' \(select\.tokenizer\) cannot be used here: needs extra packages"):
        sentence_metric(bleu(tokenizer="intl"))


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
@pytest.mark.parametrize("rank", range(5))
@pytest.mark.parametrize("reference", ["Yes .", "Article 12", "Done", "12", "§"])
def test_exact_match_wins_whatever_its_rank(reference: str, rank: int, metric: str) -> None:
    """The selector that most pipelines share prefers `Article 13 of the Treaty` to `Article 12`."""
    others = ["", f"{reference} of the Treaty", "Article 13 of the Treaty", reference.replace(" ", "")[:-1] or "x"]
    if reference == "Yes .":
        others[3] = "Yes."  # the same to 13a and chrF, and not the same
    hypotheses = [*others[:rank], reference, *others[rank:]]
    model_scores = [-0.1 * place for place in range(5)]
    scores = sentence_metric(SelectConfig(metric=metric, smoothing="exp", tokenizer="13a")).scores(
        hypotheses, reference
    )
    assert select(hypotheses, scores, model_scores, reference) == rank


def test_ties_go_to_the_higher_model_score_then_to_the_lower_rank() -> None:
    assert select(["a", "b", "c"], [5.0, 5.0, 1.0], [-2.0, -1.0, -0.5]) == 1
    assert select(["a", "b", "c"], [1.0, 5.0, 5.0], [-3.0, -1.0, -1.0]) == 1


def test_all_zero_list_yields_the_models_best() -> None:
    assert select(["a", "b", "c"], [0.0, 0.0, 0.0], [-1.0, -0.5, -0.7]) == 1


@pytest.mark.parametrize("empty", ["", " ", "\u2028"])
def test_empty_never_beats_text_of_equal_score(empty: str) -> None:
    assert select([empty, "b"], [0.0, 0.0], [-0.1, -9.0]) == 1
    assert select([empty, "b"], [0.0, 0.0], [-0.1, -9.0], reference=empty) == 1
    assert select([empty, "b"], [0.5, 0.0], [-0.1, -9.0]) == 0


@pytest.mark.parametrize(
    ("hypotheses", "scores", "model_scores"),
    [
        ([], [], []),
        (["a", "b"], [1.0], [-1.0, -2.0]),
        (["a"], [1.0], [-1.0, -2.0]),
        (["a", "b"], [math.nan, 1.0], [-1.0, -2.0]),
        (["a", "b"], [1.0, 1.0], [-1.0, math.nan]),
    ],
)
def test_what_has_no_order_is_refused(hypotheses: list[str], scores: list[float], model_scores: list[float]) -> None:
    with pytest.raises(ValueError, match="score"):
        select(hypotheses, scores, model_scores)
