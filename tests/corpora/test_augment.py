"""Variants of training pairs: who gets which, under which id, and what stays out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kd.corpora.augment import KINDS, VARIANTS, Augmenter, Row, Rules, drawn_span, is_variant, origin_of
from kd.corpora.heldout import HeldOutSet
from kd.corpora.ids import Origin, Pair, place_of, prefix_of
from kd.corpora.leakage import Guard
from kd.recipe.schema import AugmentConfig

NEWS = Origin("en-de", "news")
NONE = AugmentConfig(seed=1)
PAIRS = [
    ("The window is open.", "Das Fenster ist offen."),
    ("Close the door. It is cold outside.", "Mach die Tür zu. Draußen ist es kalt."),
    ("Close the door. It is cold outside.", "Schließ die Tür. Es ist kalt draußen."),
    ("Where is my umbrella?", "Wo ist mein Schirm?"),
]


def rows(pairs: Iterable[Sequence[str]] = PAIRS) -> list[Row]:
    numbered = enumerate(pairs, NEWS.prefix << 40)
    return [(Pair(number, source, target), tuple(further)) for number, (source, target, *further) in numbered]


def augmented(config: AugmentConfig, given: list[Row] | None = None, **rules: Any) -> tuple[list[Row], Augmenter]:
    """Return the new rows and the augmenter."""
    given = rows() if given is None else given
    made = Augmenter(
        Rules(config, ("en", "de"), {NEWS.prefix: NEWS}, **rules),
        [row[0].source for row in given],
    )
    found = list(made.rows(given))
    assert [row for row in found if prefix_of(row[0].id) == NEWS.prefix] == given
    return [row for row in found if prefix_of(row[0].id) != NEWS.prefix], made


def texts(found: Iterable[Row]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair, _ in found]


def test_capitals_are_on_both_sides_and_titles_on_the_source() -> None:
    assert texts(augmented(replace(NONE, upper_case=1.0))[0])[:2] == [
        ("THE WINDOW IS OPEN.", "DAS FENSTER IST OFFEN."),
        ("CLOSE THE DOOR. IT IS COLD OUTSIDE.", "MACH DIE TÜR ZU. DRAUSSEN IST ES KALT."),
    ]
    assert texts(augmented(replace(NONE, title_case=1.0))[0])[0] == ("The Window Is Open.", "Das Fenster ist offen.")


def test_a_full_stop_goes_on_both_sides_or_stays() -> None:
    found, made = augmented(replace(NONE, no_full_stop=1.0))
    assert texts(found)[0] == ("The window is open", "Das Fenster ist offen")
    assert len(found) == 3 and made.counts["no_full_stop: no variant"] == 1  # a question


def test_a_typing_error_is_in_the_source_of_all_its_pairs() -> None:
    found, _ = augmented(replace(NONE, typos=1.0))
    assert [target for _, target in texts(found)] == [target for _, target in PAIRS]
    assert found[1][0].source == found[2][0].source != PAIRS[1][0]


def test_two_pairs_become_one_and_one_becomes_a_part() -> None:
    assert texts(augmented(replace(NONE, concatenated=1.0))[0]) == [
        (f"{PAIRS[0][0]} {PAIRS[1][0]}", f"{PAIRS[0][1]} {PAIRS[1][1]}"),
        (f"{PAIRS[1][0]} {PAIRS[3][0]}", f"{PAIRS[1][1]} {PAIRS[3][1]}"),
    ]
    found, _ = augmented(replace(NONE, single=1.0))
    assert texts(found) in (
        [("Close the door.", "Mach die Tür zu.")],
        [("It is cold outside.", "Draußen ist es kalt.")],
    )


def test_a_copied_span_is_on_both_sides_or_alone() -> None:
    many = rows([(f"Line {n} is blue.", f"Zeile {n} ist blau.", str(n)) for n in range(200)])
    found, made = augmented(replace(NONE, copied_spans=1.0), many)
    alone = [pair for pair, _ in found if pair.source == pair.target]
    assert len(found) == made.counts["copied_spans"] == 200 and 20 < len(alone) < 80  # a quarter of them
    for pair, values in found:
        assert values == (str(place_of(pair.id)),)
        if pair not in alone:
            rest = re.sub(r"Line \d+ is blue", "", pair.source)
            assert rest == re.sub(r"Zeile \d+ ist blau", "", pair.target)


def test_spans_are_of_three_kinds_and_hardly_ever_return() -> None:
    draw = random.Random(1)
    spans = [drawn_span(draw) for _ in range(900)]
    numbers = [span for span in spans if span.isdecimal()]
    urls = [span for span in spans if span.startswith("https://")]
    assert len(set(spans)) > 890
    assert all(200 < number < 400 for number in (len(numbers), len(urls), sum("@" in span for span in spans)))


def test_all_targets_of_a_source_are_varied_alike() -> None:
    given = rows([("It rains.", "Es regnet.", "Regen fällt.", "0")])
    [row] = augmented(replace(NONE, upper_case=1.0), given, targets=1)[0]
    assert (row[0].target, row[1]) == ("ES REGNET.", ("REGEN FÄLLT.", "0"))


def test_ids_are_unique_and_name_the_pair_that_a_variant_is_made_of() -> None:
    found, _ = augmented(replace(NONE, upper_case=1.0, copied_spans=1.0))
    ids = [pair.id for pair, _ in found]
    assert len(set(ids)) == len(ids)
    prefixes = {origin_of(NEWS, kind).prefix for kind in ("upper_case", "copied_spans")}
    assert {prefix_of(each) for each in ids} == prefixes
    assert [place_of(pair.id) for pair, _ in found if prefix_of(pair.id) == origin_of(NEWS, "upper_case").prefix] == [
        0, 1, 2, 3,
    ]  # fmt: skip


def test_shares_are_those_of_sources_and_fixed_by_the_seed() -> None:
    many = rows([(f"sentence {n} of many", f"Satz {n} von vielen") for n in range(2000)])
    config = replace(NONE, upper_case=0.1, title_case=0.2, copied_spans=0.3)
    found, made = augmented(config, many)
    for kind, share in {"upper_case": 0.1, "title_case": 0.2, "copied_spans": 0.3}.items():
        assert abs(made.counts[kind] / 2000 - share) < 0.04  # about four standard deviations
    assert augmented(config, many)[0] == found
    assert augmented(replace(config, seed=2), many)[0] != found
    # A source has the same fate whatever stands beside it, and one variant at most.
    half = {pair.id: pair for pair, _ in augmented(config, many[:1000])[0]}
    assert all(half[pair.id] == pair for pair, _ in found if place_of(pair.id) < 1000)
    places = [place_of(p.id) for p, _ in found if prefix_of(p.id) != origin_of(NEWS, "copied_spans").prefix]
    assert len(places) == len(set(places))


def test_a_source_that_the_shard_has_is_no_variant() -> None:
    given = rows([("ok", "gut"), ("OK", "GUT"), ("Ok", "Gut")])
    found, made = augmented(replace(NONE, upper_case=1.0), given)
    assert not found and made.counts == {"upper_case: source known already": 2, "upper_case: no variant": 1}
    twice, _ = augmented(replace(NONE, upper_case=1.0), rows([("no", "nein"), ("No", "Nein")]))
    assert texts(twice) == [("NO", "NEIN")]


def test_held_out_sentences_do_not_come_in_by_a_part() -> None:
    pairs = [Pair(1, "Close the door!", "x"), Pair(2, "It is cold outside.", "y")]
    held = HeldOutSet("en-de", "test", ("en", "de"), "source", True, "", pairs)
    guard = Guard([held], ("en", "de"), one_sided_words=0)
    found, made = augmented(replace(NONE, single=1.0), guard=guard)
    assert not found and made.counts["single: held out"] == 1


def test_variants_are_not_varied_again() -> None:
    first = Augmenter(Rules(replace(NONE, upper_case=1.0), ("en", "de"), {NEWS.prefix: NEWS}), [])
    given = list(first.rows(rows()))
    origins = {origin.prefix: origin for origin in (NEWS, origin_of(NEWS, "upper_case"))}
    rules = Rules(replace(NONE, copied_spans=1.0), ("en", "de"), origins)
    assert [origin.name for origin in rules.new_origins] == ["news+copied_spans"]
    second = Augmenter(rules, [])
    assert len(list(second.rows(given))) == len(given) + second.counts["copied_spans"]
    assert 0 < second.counts["copied_spans"] <= len(PAIRS) < len(given)


@pytest.mark.parametrize("kind", KINDS)
def test_every_share_is_a_setting_and_names_an_origin(kind: str) -> None:
    assert getattr(NONE, kind) == 0.0 and is_variant(origin_of(NEWS, kind)) and not is_variant(NEWS)
    assert set(VARIANTS) < set(KINDS)
