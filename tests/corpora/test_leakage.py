"""Planted held-out sentences are found whatever their case, spacing and punctuation, and nothing else is."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora import leakage
from kd.corpora.heldout import HeldOutSet, write_heldout
from kd.corpora.ids import Origin, Pair
from kd.corpora.leakage import (
    Guard,
    Leaks,
    References,
    keep_out,
    mode,
    normalised,
    reproduced,
    reproduced_facts,
    words,
)
from kd.corpora.lines import open_lines
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.writing import LineWriter
from tests.corpora.samples import TORTURE

SOURCE = "The committee shall adopt its rules of procedure by a simple majority."
TARGET = "Der Ausschuss gibt sich mit einfacher Mehrheit eine Geschäftsordnung für Streße."
SHORT = ("Article 1", "Artikel 1")


def held(*pairs: tuple[str, str], languages: tuple[str, str] = ("en", "de"), **more: object) -> HeldOutSet:
    numbered = [Pair(place, *pair) for place, pair in enumerate(pairs)]
    fields = {"pair": "-".join(languages), "use": "test", "side": "source", "drawn": False, "corpus": ""}
    return HeldOutSet(**{**fields, "languages": languages, "pairs": numbered, **more})  # type: ignore[arg-type]


def guard(*sets: HeldOutSet, languages: tuple[str, str] = ("en", "de"), least: int = 5) -> Guard:
    return Guard(sets or [held((SOURCE, TARGET), SHORT)], languages, least)


@pytest.mark.parametrize(
    "change",
    [
        str,
        str.upper,
        str.title,
        lambda text: f"  {text.replace(' ', '   ')}\u00a0",
        lambda text: text.replace(" ", "\u2003").replace(".", ""),
        lambda text: " ".join(text.replace(".", " . ")),
        lambda text: f"\u201e{text.replace(' ', ' - ')}\u201c!",
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace("ß", "ss").replace("e", "e\u00ad").replace("fi", "ﬁ"),
        lambda text: text.upper().translate({code: code + 0xFEE0 for code in range(0x41, 0x5B)}),  # full width
    ],
)
def test_changed_case_spacing_and_punctuation_hide_nothing(change: object) -> None:
    assert callable(change)
    found = guard()
    source, target = change(SOURCE), change(TARGET)
    assert found.match(source, target) == {"en-de test": "both"}
    assert found.match(source, "Etwas ganz anderes.") == {"en-de test": "source"}
    assert found.match("Something else altogether.", target) == {"en-de test": "target"}
    assert found.match("Something else.", "Etwas anderes.") is None


def test_short_sentences_count_together_alone_they_do_not() -> None:
    found = guard()
    assert found.match("ARTICLE  1", "Artikel 1.") == {"en-de test": "both"}
    assert found.match("Article 1", "Artikel eins") is None
    assert found.match("Article one", "Artikel 1") is None
    assert guard(least=1).match("Article 1", "Artikel eins") == {"en-de test": "source"}


def test_sides_are_compared_by_language() -> None:
    turned = guard(languages=("de-AT", "en-GB"))
    assert turned.match(TARGET, SOURCE) == {"en-de test": "both"}
    assert turned.match(TARGET, "x") == {"en-de test": "target"}
    assert turned.match("x", SOURCE) == {"en-de test": "source"}
    assert turned.match(SOURCE, TARGET) is None
    other = guard(languages=("da", "de"))
    assert other.match("Noget helt andet.", TARGET) == {"en-de test": "target"}
    assert other.match(*SHORT) is None  # the Danish side is no English one, whatever it looks like
    unrelated = guard(languages=("da", "fi"))
    assert unrelated.sets == {}
    assert unrelated.match(SOURCE, TARGET) is None


def test_a_pair_counts_in_every_set_by_its_strongest_match(tmp_path: Path) -> None:
    first, second = held((SOURCE, TARGET), SHORT), held((SOURCE, "Anders."), use="dev")
    origin = Origin("en-de", "law")
    rows = [("fine", "gut"), (SOURCE, TARGET), (SOURCE, "neu"), SHORT, ("Tab\there and nothing else at all", TARGET)]
    train = list(origin.number(rows))
    with LineWriter(tmp_path / "leaked.tsv.zst") as sample:
        leaks = Leaks({origin.prefix: origin}, sample)
        assert list(keep_out(train, guard(first, second), leaks.add)) == train[:1]
    assert leaks.pairs == 4
    assert leaks.by_kind == {"both": 2, "source": 1, "target": 1}
    assert leaks.by_set == {
        "en-de test": {"both": 2, "source": 1, "target": 1},
        "en-de dev": {"source": 2},
    }
    header, *lines = open_lines(tmp_path / "leaked.tsv.zst")
    assert header == "id\tcorpus\tline\tmatch\tset\tsource\ttarget"
    assert [line.split("\t")[:5] for line in lines] == [
        [str(train[1].id), "law", "2", "both", "en-de dev, en-de test"],
        [str(train[2].id), "law", "3", "source", "en-de dev, en-de test"],
        [str(train[3].id), "law", "4", "both", "en-de test"],
        [str(train[4].id), "law", "5", "target", "en-de test"],
    ]
    assert all(line.count("\t") == 6 for line in lines)
    leaks.refuse("en-de")  # nothing blocks


def test_what_blocks_is_refused_with_counts_and_examples() -> None:
    drawn = held(("One more sentence of the test set.", "x"), drawn=True, use="dev")
    found = guard(held((SOURCE, TARGET), SHORT), drawn)
    assert found.given == {"en-de test"}
    origin = Origin("en-de", "law")
    leaks = Leaks({origin.prefix: origin}, blocking=found.given)
    repeats = list(origin.number([("One more sentence of the test set!", "y")] * 3))
    assert list(keep_out(repeats, found, leaks.add)) == []
    leaks.refuse("en-de")
    planted = list(origin.number([("fine", "gut"), (SOURCE, "y"), (SOURCE.upper(), TARGET)]))[1:]
    list(keep_out(planted, found, leaks.add))
    with pytest.raises(UserError) as caught:
        leaks.refuse("en-de")
    first, second = (f"{SOURCE[:59]}…", f"{SOURCE[:59].upper()}…")
    assert caught.value.problem == (
        "2 training pairs of en-de match held-out sets (en-de test: 1 by both sides, 1 by its source alone), "
        f"for instance {planted[0].id} (law, pair 2: {first!r}), {planted[1].id} (law, pair 3: {second!r})."
    )


def test_the_sample_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MOST_SAMPLED", 3)
    with LineWriter(tmp_path / "leaked.tsv") as sample:
        leaks = Leaks({}, sample)
        assert list(keep_out([Pair(i, SOURCE, TARGET) for i in range(50)], guard(), leaks.add)) == []
    assert (leaks.pairs, sample.lines, len(leaks.examples)) == (50, 4, 3)


# Letters with and without marks, ligatures, symbols, scripts without spaces, and much white space.
pieces = st.sampled_from([*"aAsSßİıéÉΣςﬁ½´'\u0301\u0308\u00ad\u200dñ中ガ가\u0345!—“ ", " ", "  ", "word ", "the long "])
some_text = st.lists(pieces, max_size=40).map("".join) | st.sampled_from(TORTURE)


@given(st.lists(st.tuples(some_text, some_text), max_size=8), st.lists(st.tuples(some_text, some_text), max_size=20))
def test_what_is_looked_at_first_hides_nothing(sets: list[tuple[str, str]], train: list[tuple[str, str]]) -> None:
    found = Guard([held(*sets)], ("en", "de"), 0)
    both = {(normalised(source), normalised(target)) for source, target in sets}
    alone = [{normalised(text) for text in side if words(text)} for side in zip(*sets, strict=True)] or [set(), set()]
    for source, target in [*train, *sets]:
        keys = (normalised(source), normalised(target))
        kind = "both" if keys in both else "source" if keys[0] in alone[0] else "target" if keys[1] in alone[1] else ""
        assert found.match(source, target) == ({"en-de test": kind} if kind else None)


@given(some_text, some_text)
def test_what_comes_after_a_space_changes_nothing_before_it(first: str, second: str) -> None:
    if leakage._bare(first):
        assert leakage._bare(f"{first} {second}").startswith(leakage._bare(first))


def test_the_normal_form() -> None:
    assert normalised("Don\u2019t  STOP \u2013 it's 5 m²!") == normalised("don't stop, its 5 M2") == "dontstopits5m2"
    assert normalised("don\u00b4t") == "dont"
    assert normalised("—") == "—"  # nothing else is left
    assert normalised("☺ ☺") == "☺☺"
    assert normalised("हिन्दी") == "हिन्दी"  # marks are part of a word
    assert normalised("résumé") != normalised("resume")
    assert normalised("1.5") == normalised("15")  # stated in the documentation


@pytest.mark.parametrize(
    ("text", "length"),
    [("", 0), ("Article 1 (a)", 3), ("don't stop", 3), ("委员会应当通过", 3), ("—", 0), ("ab 中文", 2)],
)
def test_words(text: str, length: int) -> None:
    assert words(text) == length


def test_modes() -> None:
    assert [mode(setting) for setting in ("remove", "fail", "off", "False")] == ["remove", "fail", "off", "off"]
    with pytest.raises(UserError, match=r"corpus\.leakage is 'of'"):
        mode("of")


def test_reproduced_references_are_those_of_other_sources() -> None:
    dev = held(("On a set to validate on, this is it.", "Auf der Menge zum Validieren ist es dies."), use="dev")
    references = References([held((SOURCE, TARGET), SHORT), dev], ("en", "de"))
    rows = [
        (SOURCE.upper(), TARGET),  # its own source: no sign of anything
        ("Another source.", TARGET.lower()),
        ("A third source.", TARGET),
        ("Article one", SHORT[1]),  # too short to mean anything
        ("x", dev.pairs[0].target),
        ("x", "Etwas anderes."),
    ]
    assert reproduced(references, rows) == {"outputs": 2, "references": 1}
    into_english = References([held((SOURCE, TARGET))], ("da", "en"))
    assert reproduced(into_english, [("Udvalget", SOURCE)]) == {"outputs": 1, "references": 1}


def test_reproduced_references_of_a_selected_corpus(tmp_path: Path) -> None:
    test = [Pair(1, SOURCE, TARGET)]
    write_heldout(tmp_path / "held", "en-de", {"dev": [], "test": test})
    with CorpusWriter(tmp_path / "selected", ("en", "de"), 10, columns=("rank",)) as writer:
        for place, (text, rank) in enumerate(
            [(TARGET, "0"), (TARGET, "gold"), ("Anders.", "1"), (TARGET.upper(), "2")]
        ):
            writer.add(Pair(place, f"source {place}", text), rank)
    selected = Corpus(tmp_path / "selected")
    assert reproduced_facts([tmp_path / "held"], selected) == {"reproduced": {"outputs": 2, "references": 1}}
    assert reproduced_facts([], selected) == {}
