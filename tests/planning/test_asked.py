"""`kd plan` forecasts the tokens and the price of a teacher behind a server from the lengths of the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd.planning.gather import forecast
from kd.planning.page import totals

PROMPT = "Translate to German: {source}"  # 29 characters, of which a token has four
PAIRS, SOURCE, TARGET, NBEST, TEST = 50_000, 20, 24, 4, 1000


def asked(place: Path, *more: str) -> dict[str, tuple[str, float | None]]:
    teacher = (
        f"engine: endpoint, url: 'http://localhost:1/v1', model: x, prompt: '{PROMPT}', input_price: 2, output_price: 8"
    )
    arguments = [
        "recipe=demo", f"store.dir={place}/store", f"run.dir={place}/run", "chain=given_teachers",
        f"+teachers={{a: {{{teacher}}}}}", "student.distill.alpha=0", "student.distill.stored=false",
        "student.start.layers=false", "evaluate.robustness.enabled=false",
        "decode.method=sample", f"decode.nbest={NBEST}",
        f"assume.pairs.en-de={PAIRS}", f"assume.source_pieces={SOURCE}", f"assume.target_pieces={TARGET}", *more,
    ]  # fmt: skip
    return {name: (words, estimate.value) for name, words, estimate in totals(forecast(arguments))}


def test_tokens_and_price_follow_from_the_lengths_of_the_text(tmp_path: Path) -> None:
    found = asked(tmp_path)
    frame = len(PROMPT) / 4
    read = (PAIRS + TEST) * (SOURCE + frame)  # decoding, which is planned with all pairs, and the translation of test
    written = PAIRS * NBEST * TARGET + TEST * TARGET
    assert found["tokens read"][1] == pytest.approx(read)
    assert found["tokens written"][1] == pytest.approx(written)
    assert found["price of tokens"][1] == pytest.approx((2 * read + 8 * written) / 1e6)
    assert found["price of tokens"][0].endswith(" USD")


def test_a_request_for_each_sample_repeats_the_prompt(tmp_path: Path) -> None:
    once, each = asked(tmp_path), asked(tmp_path, "teachers.a.samples=1")
    assert each["tokens written"] == once["tokens written"]
    assert 3.8 < (each["tokens read"][1] or 0) / (once["tokens read"][1] or 1) < NBEST
