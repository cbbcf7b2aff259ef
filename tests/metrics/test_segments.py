"""What goes wrong beyond averages, on segments written for it; scores against sacreBLEU's own functions."""

from __future__ import annotations

import pytest
import sacrebleu

from kd.cli.evaluate_files import default_guards
from kd.corpora.guards import NAMES
from kd.metrics.corpus import Options
from kd.metrics.segments import Kept, Weaknesses, segment_scores, weaknesses, worst
from kd.metrics.words import words

SOURCES = [
    "Yes",
    "Open the file {name} in 1,234 steps",
    "London",
    "This sentence was left as it was",
    "The committee adopted the rules",
    "",
]
REFERENCE = [
    "Ja",
    "Öffnen Sie die Datei {name} in 1.234 Schritten",
    "London",
    "Dieser Satz blieb, wie er war",
    "Der Ausschuss nahm die Regeln an",
    "",
]


def counted(hypotheses: list[str], *more: list[str]) -> Weaknesses:
    guards = default_guards("en", "de")
    return weaknesses(hypotheses, [REFERENCE, *more], SOURCES, options=Options(language="de"), guards=guards)


def test_a_perfect_system_has_no_weakness() -> None:
    found = counted(REFERENCE)
    assert (found.empty, found.copied, found.runaway) == (0, 0, 0)  # a blank reference is no fault
    assert found.guards == dict.fromkeys(NAMES, 0)
    assert (found.short, found.short_exact, found.short_runaway) == (2, 2, 0)
    assert found.numbers == Kept(1, 1, 0)  # 1,234 is 1.234 in German
    assert found.placeholders == Kept(1, 1, 0)
    assert found.names == Kept(1, 1, 0)  # London; Satz, Ausschuss are not in the source


def test_each_fault_is_counted_as_what_it_is() -> None:
    found = counted(
        [
            "Ja " * 30,
            "Öffnen Sie die Datei {Name} in 1.324 Schritten",
            "Londres",
            "This sentence was left as it was",
            "",
            "",
        ]
    )
    assert (found.empty, found.copied, found.runaway) == (1, 1, 1)
    others = {"unknown": 0, "limit": 0, "repetition": 0, "language": 0}
    assert found.guards == {"empty": 1, "copy": 1, "length": 1, **others}  # one guard a segment
    assert (found.short, found.short_exact, found.short_runaway) == (2, 0, 1)
    assert found.numbers == Kept(1, 0, 1)
    assert found.placeholders == Kept(1, 0, 1)
    assert found.names == Kept(1, 0, 1)


def test_what_a_reference_does_as_well_is_no_fault() -> None:
    other = [*REFERENCE]
    other[3] = SOURCES[3]  # a reference that copies
    other[1] = "Öffnen Sie die Datei"  # one that leaves number and placeholder out
    found = counted([*REFERENCE[:1], "Öffnen", REFERENCE[2], SOURCES[3], *REFERENCE[4:]], other)
    assert found.copied == found.guards["copy"] == 0
    assert found.numbers == found.placeholders == Kept(0, 0, 0)


def test_without_a_source_nothing_is_guessed() -> None:
    found = weaknesses(REFERENCE, [REFERENCE])
    assert found.copied is found.short is found.numbers is found.names is found.guards is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("%s of %(count)d", 2),
        ("<b>bold</b>", 2),
        ("{{ user }} ${HOME} %1$s", 3),
        ("see https://example.org/a?b=c or a@b.eu", 2),
        ("100 % of it", 0),
        ("a < b > c", 0),
    ],
)
def test_placeholders(text: str, kept: int) -> None:
    assert weaknesses([text], [[text]], [text]).placeholders == Kept(kept, kept, 0)


def test_words_of_languages_without_spaces() -> None:
    assert len(words("日本語です。OK go")) == 8  # six characters, the full stop among them; two words
    assert words("a  b\u2028c") == ["a", "b", "c"]


def test_buckets_are_scores_of_their_segments_alone() -> None:
    hypotheses = [*REFERENCE[:4], "Der Ausschuss nahm Regeln an", ""]
    buckets = counted(hypotheses).buckets
    assert [(bucket.shortest, bucket.longest, bucket.segments) for bucket in buckets] == [
        (1, 3, 2), (4, 10, 3), (11, 20, 0), (21, 40, 0), (41, None, 0)
    ]  # fmt: skip
    inside = [1, 3, 4]
    expected = sacrebleu.corpus_bleu([hypotheses[i] for i in inside], [[REFERENCE[i] for i in inside]])
    assert buckets[1].scores["BLEU"] == expected.score
    assert buckets[0].scores["chrF2"] == pytest.approx(100)
    assert buckets[2].scores == {}


def test_segment_scores_are_sacrebleus() -> None:
    hypotheses = ["Ja", "Datei", "London", "Satz", "Der Ausschuss", ""]
    references = [REFERENCE, SOURCES]
    found = segment_scores({"one": hypotheses}, references, ["bleu", "chrf"])
    for i, hypothesis in enumerate(hypotheses):
        both = [REFERENCE[i], SOURCES[i]]
        assert found["BLEU"]["one"][i] == sacrebleu.sentence_bleu(hypothesis, both).score
        assert found["chrF2"]["one"][i] == sacrebleu.sentence_chrf(hypothesis, both).score


def test_the_worst_come_first_and_only_where_a_system_is_behind() -> None:
    systems = {"base": ["a", "b", "c"], "other": ["x", "y", "z"]}
    scores = {"chrF2": {"base": [50.0, 60.0, 10.0], "other": [40.0, 20.0, 90.0]}}
    found = worst(scores, "chrF2", "base", systems, [["r1", "r2", "r3"]], None, 5)
    assert [(item.segment, item.hypothesis, item.baseline) for item in found] == [(2, "y", "b"), (1, "x", "a")]
    errors = {"TER": scores["chrF2"]}
    assert [item.segment for item in worst(errors, "TER", "base", systems, [["r1", "r2", "r3"]], None, 5)] == [3]


@pytest.mark.parametrize(
    ("hypothesis", "kept"), [("3,5 Grad", 1), ("3.50 Grad", 1), ("35 Grad", 0), ("5.3 Grad", 0), ("drei Grad", 0)]
)
def test_numbers_are_kept_by_value_as_the_filter_compares_them(hypothesis: str, kept: int) -> None:
    found = weaknesses([hypothesis], [["3,5 Grad"]], ["3.5 degrees"])
    assert found.numbers == Kept(1, kept, 1 - kept)


def test_a_blank_reference_beside_another_is_left_out() -> None:
    one = weaknesses(["", "London"], [["Ja", "London"]], ["Yes", "London"])
    two = weaknesses(["", "London"], [["Ja", "London"], ["", ""]], ["Yes", "London"])
    assert (one.empty, two.empty) == (1, 1) and one.names == two.names == Kept(1, 1, 0)
    blank = weaknesses(["", "London"], [["", "London"]], ["Yes", "London"])
    assert blank.empty == 0  # the only reference is empty as well
