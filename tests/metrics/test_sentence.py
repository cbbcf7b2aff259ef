"""Sentence scores against sacreBLEU's own functions: equal bits, whatever the text holds."""

import math
import random
from itertools import chain, pairwise

import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.metrics.compiled import MTEVAL13A, _cut
from kd.metrics.sentence import Candidates, SentenceMetric, _decoded, sentence_metric, uses_external_scores
from kd.recipe.schema import SelectConfig
from tests.messages import messages

TOKENIZE = sacrebleu.BLEU(tokenize="13a").tokenizer


def bleu(smoothing: str = "exp", tokenizer: str = "13a", value: float | None = None) -> SelectConfig:
    return SelectConfig(metric="bleu", smoothing=smoothing, tokenizer=tokenizer, smooth_value=value)


def scores(metric: SentenceMetric, hypotheses: list[str], reference: str) -> list[float]:
    return metric.scores([Candidates(hypotheses, reference)])[0]


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


# What mteval-v13a looks at: periods, commas and dashes beside digits, symbols, entities; what Python takes for white
# space and others do not.
EDGES = st.lists(
    st.sampled_from([*"..,,--0123ab'&;<>/ {~@[`\n", "\x7f", "\x80", "\x85", "\x1c", "\xa0", "\u2028", "\u3000",
                     "é", "٣", "&amp;", "quot;", "&lt;", "<skipped>", "-\n", "\ud800", "😀"]), max_size=16,
).map("".join)  # fmt: skip
any_text = nasty | EDGES | st.text(st.characters(), max_size=30)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(any_text, max_size=6), any_text, st.sampled_from(["exp", "floor", "add-k", "none"]))
@example(["Article 12", ""], "Article 12", "none")
def test_bleu_equals_sacrebleu_to_the_last_bit(hypotheses: list[str], reference: str, smoothing: str) -> None:
    for tokenizer in ("13a", "none", "char", "intl", "zh"):
        expected = [
            sacrebleu.sentence_bleu(
                hypothesis, [reference], smooth_method=smoothing, tokenize=tokenizer, use_effective_order=True
            ).score
            for hypothesis in hypotheses
        ]
        assert scores(sentence_metric(bleu(smoothing, tokenizer)), hypotheses, reference) == expected


def tokens(line: str) -> list[str]:
    """As the compiled code cuts it."""
    (line,) = _decoded([line])
    text = np.frombuffer(line.encode("utf-32-le", "surrogatepass"), np.uint32)
    starts, ends = np.empty(len(line), np.int64), np.empty(len(line), np.int64)
    count = _cut(text, 0, len(line), MTEVAL13A, starts, ends)
    return [line[start:end] for start, end in zip(starts[:count], ends[:count], strict=True)]


@settings(derandomize=True, deadline=None, max_examples=3000)
@given(EDGES)
@example("1..2,,3.,4..,5")
def test_13a_has_sacrebleus_tokens(line: str) -> None:
    assert tokens(line) == TOKENIZE(line.rstrip()).split()


def test_13a_knows_every_character() -> None:
    codes = chain(range(0x3100), range(0xD7F0, 0xE010), range(0xFE00, 0x10100), range(0x1F600, 0x1F700), [0x10FFFF])
    for code in codes:
        for line in (f"a{chr(code)}b.{chr(code)}", f"1{chr(code)}2,{chr(code)}3"):
            assert tokens(line) == TOKENIZE(line.rstrip()).split(), line


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(any_text, max_size=6), any_text, st.sampled_from([0, 2]), st.booleans())
def test_chrf_equals_sacrebleu_to_the_last_bit(
    hypotheses: list[str], reference: str, word_order: int, lowercase: bool
) -> None:
    metric = sacrebleu.CHRF(word_order=word_order, lowercase=lowercase)
    expected = [metric.sentence_score(hypothesis, [reference]).score for hypothesis in hypotheses]
    config = SelectConfig(metric="chrf", smoothing="exp", tokenizer="13a", word_order=word_order, lowercase=lowercase)
    assert scores(sentence_metric(config), hypotheses, reference) == expected


@pytest.mark.parametrize(
    ("smoothing", "value"), [("floor", 0.01), ("floor", 0), ("add-k", 0.5), ("add-k", 2), ("exp", 3)]
)
@pytest.mark.parametrize("lowercase", [False, True])
def test_settings_are_sacrebleus(smoothing: str, value: float, lowercase: bool) -> None:
    hypotheses = ["Der Hund bellt laut.", "der hund Bellt", "ΟΔΟΣ ΣΑΣ İ", "Hund", "", "Hund " * 5000]
    config = SelectConfig("bleu", smoothing, "13a", smooth_value=value, lowercase=lowercase)
    metric = sacrebleu.BLEU(
        effective_order=True, smooth_method=smoothing, smooth_value=value, lowercase=lowercase, tokenize="13a"
    )
    for reference in ("Der Hund bellt leise.", "οδος σας i̇", "Hund"):
        expected = [metric.sentence_score(hypothesis, [reference]).score for hypothesis in hypotheses]
        assert scores(sentence_metric(config), hypotheses, reference) == expected
    assert sentence_metric(config).signature == metric.get_signature().format()


def changed(reference: str, other: str, draw: random.Random) -> str:
    """Return the reference with some of its words drawn anew from both texts."""
    words = reference.split()
    return " ".join(draw.choice(words + other.split()) if draw.random() < 0.3 else word for word in words)


@pytest.mark.parametrize("language", ["de", "fi", "fr", "ru", "el", "ar", "hi", "ja"])
def test_real_text_has_sacrebleus_scores(language: str) -> None:
    draw = random.Random(1)
    references = [translation for _, translation in messages(language)[:300]]
    lists = [
        Candidates([changed(reference, other, draw) for _ in range(3)], reference)
        for other, reference in pairwise(references)
    ]
    bleus, chrfs = sentence_metric(bleu()).scores(lists), sentence_metric(CHRF).scores(lists)
    for (hypotheses, reference, *_), bleu_scores, chrf_scores in zip(lists, bleus, chrfs, strict=True):
        assert bleu_scores == [sacrebleu.sentence_bleu(h, [reference]).score for h in hypotheses]
        assert chrf_scores[0] == sacrebleu.sentence_chrf(hypotheses[0], [reference]).score


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.metrics.sentence.REMEMBERED", 3)
    metric = sentence_metric(bleu())
    lists = [Candidates(["a b c d"[: 2 * n + 1] for n in range(4)], "a " * m) for m in range(1, 9)]
    expected = [[sacrebleu.sentence_bleu(h, [item.reference]).score for h in item.hypotheses] for item in lists]
    assert [metric.scores([item])[0] for item in lists] == expected
    assert metric.scores(lists) == expected


def test_others_scores_pass_through() -> None:
    item = Candidates(["a", "b"], "a", [-1.0, -2.0], {"external": [0.5, 0.7]})
    assert sentence_metric(SelectConfig("model", "exp", "13a")).scores([item]) == [[-1.0, -2.0]]
    assert sentence_metric(SelectConfig("external", "exp", "13a")).scores([item]) == [[0.5, 0.7]]
    with pytest.raises(ValueError, match="2 hypotheses and 0 external scores"):
        sentence_metric(SelectConfig("external", "exp", "13a")).scores([Candidates(["a", "b"], "a", [-1.0, -2.0])])


def test_a_mix_is_the_weighted_sum() -> None:
    config = SelectConfig("mix", "exp", "13a", mix={"bleu": 0.5, "chrf": 0.25, "model": 10.0})
    hypotheses, reference = ["the cat sat here", "a cat sat there"], "the cat sat there"
    expected = [
        0.0 + 0.5 * sacrebleu.sentence_bleu(h, [reference]).score + 0.25 * sacrebleu.sentence_chrf(h, [reference]).score
        + 10.0 * score
        for h, score in zip(hypotheses, [-0.5, -0.75], strict=True)
    ]  # fmt: skip
    metric = sentence_metric(config)
    assert metric.scores([Candidates(hypotheses, reference, [-0.5, -0.75])]) == [expected]
    assert metric.signature.startswith("0.5 * (bleu nrefs:1|case:mixed|eff:yes|tok:13a")
    assert not uses_external_scores(config)
    assert uses_external_scores(SelectConfig("mix", "exp", "13a", mix={"external": 1.0}))


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({}, "select.mix is empty"),
        (
            {"blue": 1.0},
            r"no metric blue to mix \(select.mix.blue\). Choose among: bleu, chrf, mbr_bleu, mbr_chrf, comet, qe, ",
        ),
        ({"mix": 1.0}, "no metric mix to mix"),
        ({"bleu": 0.0}, "select.mix.bleu is 0"),
        ({"bleu": math.nan}, "select.mix.bleu is nan"),
    ],
)
def test_a_mix_of_nothing_is_refused(mix: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sentence_metric(SelectConfig("mix", "exp", "13a", mix=mix))


def test_one_object_scores_many_lists() -> None:
    metric = sentence_metric(bleu())
    first = scores(metric, ["a b c d"], "a b c e")
    scores(metric, ["x"], "y z")
    assert scores(metric, ["a b c d"], "a b c e") == first


def test_scores_are_those_of_sacrebleus_own_tests() -> None:
    # sacreBLEU, test/test_bleu.py (test_case_effective_order): "test" against "a test" is exp(-1), the brevity penalty.
    assert scores(sentence_metric(bleu()), ["test"], "a test") == pytest.approx([100 * math.exp(-1)], abs=1e-9)
    # sacreBLEU, test/test_chrf.py (test_cases_effective_order): chrF knows no spaces.
    assert scores(sentence_metric(CHRF), ["a b c", ""], "abc") == pytest.approx([100.0, 0.0], abs=1e-9)


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
    assert what in error.value.problem
    assert choices in error.value.hint


def test_tokenizer_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> None:
        raise RuntimeError("\nneeds extra\npackages\n")

    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_intl.TokenizerV14International.__init__", unavailable)
    with pytest.raises(UserError, match=r"'intl' \(select\.tokenizer\) cannot be used here: needs extra packages"):
        sentence_metric(bleu(tokenizer="intl"))
