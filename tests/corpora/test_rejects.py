"""The sample of rejects is bounded, the same however it was gathered, and its text can be had back as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kd.corpora.ids import Pair
from kd.corpora.rejects import LONGEST, Sample, read_rejects
from tests.corpora.samples import TORTURE


def sampled(most: int, pairs: list[tuple[str, Pair]], parts: int = 1) -> Sample:
    whole = Sample(most)
    for part in range(parts):
        one = Sample(most)
        for label, pair in pairs[part::parts]:
            one.add(label, pair)
        whole.merge(one.rejects())
    return whole


@given(st.integers(0, 5), st.integers(1, 4), st.lists(st.sampled_from(["copies", "ratio"]), max_size=40))
def test_the_sample_does_not_depend_on_who_gathered_it(most: int, parts: int, labels: list[str]) -> None:
    pairs = [(label, Pair(number, f"s{number}", "t")) for number, label in enumerate(labels)]
    kept = sampled(most, pairs).rejects()
    assert kept == sampled(most, pairs[::-1], parts).rejects()
    assert Counter(reject.filter for reject in kept) == +Counter(
        {label: min(most, count) for label, count in Counter(labels).items()}
    )


def test_every_reject_has_the_same_chance() -> None:
    places = [reject.id for reject in sampled(500, [("x", Pair(n, "", "")) for n in range(10_000)]).rejects()]
    halves = sum(place < 5000 for place in places)
    assert 200 < halves < 300  # of 500, were it a coin: 250, standard deviation 11


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    lines = [*[line for line in TORTURE if len(line) <= LONGEST], "tab\tand \\t and \\\\", "\\"]
    sample = sampled(100, [("x", Pair(number, line, line[::-1])) for number, line in enumerate(lines)])
    sample.write(tmp_path / "rejected.tsv.zst")
    assert list(read_rejects(tmp_path / "rejected.tsv.zst")) == [
        ("x", Pair(number, line, line[::-1])) for number, line in enumerate(lines)
    ]


def test_a_line_of_a_megabyte_is_cut() -> None:
    (reject,) = sampled(1, [("x", Pair(1, "x" * (1 << 20), "y"))]).rejects()
    assert len(reject.source) < LONGEST + 50
    assert "1044576 characters more" in reject.source
