"""The choice from a list: exact matches, ties, empty hypotheses, variants for ablation, guards, and what is counted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import sacrebleu

from kd.metrics.selection import Chooser, preferences, select
from kd.metrics.sentence import Candidates, sentence_metric
from kd.metrics.statistics import Choice, merged
from kd.recipe.schema import Below, OnGuard, SelectConfig, Variant


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
    (scores,) = sentence_metric(SelectConfig(metric=metric, smoothing="exp", tokenizer="13a")).scores(
        [Candidates(hypotheses, reference)]
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


def test_preferences_begin_with_what_is_selected() -> None:
    texts, scores, model_scores = ["", "b", "a", "c"], [5.0, 5.0, 5.0, 7.0], [-1.0, -3.0, -2.0, -9.0]
    assert list(preferences(texts, scores, model_scores, "b")) == [3, 1, 2, 0]
    assert select(texts, scores, model_scores, "b") == 3


REFERENCE = "the cat sat on the mat"
TEXTS = ["the dog sat", "a cat sat on the mat", "the cat sat on the mat today"]
LIST = Candidates(TEXTS, REFERENCE, [-1.0, -2.0, -3.0])
SCORES = [sacrebleu.sentence_bleu(text, [REFERENCE]).score for text in TEXTS]
BEST = 2


class NoCats:
    """A guard that lets some hypotheses through."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad

    def check(self, source: str, hypothesis: str, limited: bool = False) -> str | None:
        assert source == "source"
        return "cats" if hypothesis in self.bad else None


def choose(lists: Sequence[Candidates], bad: Sequence[str] = (), **settings: object) -> tuple[list[Choice], Chooser]:
    config = SelectConfig("bleu", "exp", "13a", **settings)  # type: ignore[arg-type]
    chooser = Chooser(config, NoCats(*bad))
    return chooser.choose(lists, ["source"] * len(lists)), chooser


@pytest.mark.parametrize(
    ("settings", "rank"),
    [
        ({}, BEST),
        ({"variant": Variant.best_and_gold}, BEST),
        ({"variant": Variant.first}, 0),
        ({"variant": Variant.gold}, None),
        ({"variant": Variant.threshold, "threshold": 99.0}, None),
        ({"variant": Variant.threshold, "threshold": SCORES[BEST]}, BEST),
    ],
)
def test_variants(settings: dict[str, object], rank: int | None) -> None:
    assert max(SCORES) == SCORES[BEST]
    (choice,), chooser = choose([LIST], **settings)
    assert (choice.rank, choice.first_score, choice.dropped) == (rank, SCORES[0], False)
    assert (chooser.statistics.gold, chooser.statistics.chosen) == ((1, 0) if rank is None else (0, 1))


def test_below_the_threshold_a_pair_may_be_left_out() -> None:
    (choice,), chooser = choose([LIST], variant=Variant.threshold, threshold=99.0, below=Below.drop)
    assert (choice.rank, choice.dropped, choice.below) == (None, True, True)
    counted = chooser.statistics
    assert (counted.dropped, counted.below, counted.gold, counted.chosen) == (1, 1, 0, 0)


def test_the_limit_of_ter_is_that_of_sacrebleu() -> None:
    """TER by sacreBLEU: `TER().sentence_score(text, [reference]).score`, in per cent."""
    ter = sacrebleu.TER().sentence_score(TEXTS[BEST], [REFERENCE]).score / 100
    assert 0 < ter < 1
    (choice,), _ = choose([LIST], max_ter=ter + 1e-6)
    assert choice.rank == BEST
    (choice,), chooser = choose([LIST], max_ter=ter - 1e-6)
    assert (choice.rank, choice.distant, choice.below, choice.dropped) == (None, True, False, False)
    assert (chooser.statistics.distant, chooser.statistics.gold) == (1, 1)
    (choice,), _ = choose([LIST], max_ter=ter - 1e-6, below=Below.drop)
    assert choice.dropped


def test_top_takes_the_next_best_that_pass_guards_and_differ() -> None:
    texts = [*TEXTS, TEXTS[1], "the cat"]
    item = Candidates(texts, REFERENCE, [-float(rank) for rank in range(5)])
    scores = [sacrebleu.sentence_bleu(text, [REFERENCE]).score for text in texts]
    order = sorted(range(5), key=lambda rank: (-scores[rank], rank))
    (choice,), chooser = choose([item], variant=Variant.top, top=4)
    assert [choice.rank, *choice.further] == [rank for rank in order if rank != 3]
    assert chooser.statistics.further == 3
    (choice,), _ = choose([item], [TEXTS[1]], variant=Variant.top, top=3)
    assert not {1, 3} & {choice.rank, *choice.further}
    (choice,), _ = choose([item], variant=Variant.top, top=2)
    assert len(choice.further) == 1


def test_a_hypothesis_that_trips_a_guard_is_not_chosen_while_another_does_not() -> None:
    (choice,), chooser = choose([LIST], [TEXTS[BEST]])
    assert choice == Choice(1, SCORES[1], SCORES[0])
    assert chooser.statistics.set_aside == {"cats": 1}
    (choice,), _ = choose([LIST], [TEXTS[0]], variant=Variant.first)
    assert choice.rank == 1


@pytest.mark.parametrize(
    ("on_guard", "rank", "dropped"),
    [(OnGuard.gold, None, False), (OnGuard.drop, None, True), (OnGuard.keep, BEST, False)],
)
def test_where_all_trip_a_guard_the_setting_decides(on_guard: OnGuard, rank: int | None, dropped: bool) -> None:
    (choice,), chooser = choose([LIST], TEXTS, on_guard=on_guard)
    assert choice == Choice(rank, SCORES[BEST], SCORES[0], "cats", dropped, preferred=0 if rank is not None else BEST)
    counted = chooser.statistics
    assert counted.no_way_out == {"cats": 1}
    assert (counted.chosen, counted.gold, counted.dropped) == (
        int(rank is not None),
        int(on_guard is OnGuard.gold),
        int(dropped),
    )


def test_what_the_human_wrote_trips_no_guard() -> None:
    (choice,), chooser = choose([Candidates(["x", "OK"], "OK", [-1.0, -2.0])], ["OK", "x"])
    assert choice.rank == 1
    assert not chooser.statistics.no_way_out


def test_statistics_say_what_changed() -> None:
    lists = [LIST, Candidates(["a b", "c d"], "c d", [-1.0, -2.0]), Candidates(["same", "other"], "same", [-1.0, -2.0])]
    _, chooser = choose(lists)
    counted = json.loads(json.dumps(chooser.statistics.to_json()))
    assert (counted["lists"], counted["chosen"], counted["exact"]) == (3, 3, 2)
    assert counted["ranks"] == {"2": 1, "1": 1, "0": 1}
    assert counted["sum_selected"] == pytest.approx(SCORES[BEST] + sum(
        sacrebleu.sentence_bleu(text, [text]).score for text in ("c d", "same")
    ))  # fmt: skip
    assert counted["first_scores"] == {str(int(SCORES[0] // 10)): 1, "0": 1, "10": 1}
    assert {side: words["words"] for side, words in counted["words"].items()} == {"gold": 9, "first": 6, "selected": 10}
    assert [item["selected"] for item in counted["examples"]] == ["c d", TEXTS[BEST]]


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    lists = [Candidates([f"a b {n}", f"a b c {n} {n}"], f"a b c {n}", [-1.0, -2.0]) for n in range(700)]
    _, whole = choose(lists, ["a b c 7 7"])
    parts = []
    for first in range(0, 700, 250):
        _, chooser = choose(lists[first : first + 250], ["a b c 7 7"])
        parts.append(json.loads(json.dumps(chooser.statistics.to_json())))
    total, expected = merged(parts), json.loads(json.dumps(whole.statistics.to_json()))
    assert {name: total[name] for name in ("lists", "chosen", "exact", "ranks", "scores", "gains", "set_aside")} == {
        name: expected[name] for name in ("lists", "chosen", "exact", "ranks", "scores", "gains", "set_aside")
    }
    assert total["sum_selected"] == pytest.approx(expected["sum_selected"])
    assert total["bin_width"] == 10.0
    assert {name: side["words"] for name, side in total["words"].items()} == {
        name: side["words"] for name, side in expected["words"].items()
    }
    assert expected["words"]["gold"]["windows"] == 2  # of 2,800 words
    assert [item["score_selected"] for item in total["examples"]] == [
        item["score_selected"] for item in expected["examples"]
    ]


def test_scores_without_bounds_have_their_bins() -> None:
    chooser = Chooser(SelectConfig("model", "exp", "13a"))
    chooser.choose([Candidates(["a", "b"], "a", [-math.inf, -1e9]), Candidates(["a"], "a", [-0.3])])
    assert chooser.statistics.scores == {-40: 1, -2: 1}
