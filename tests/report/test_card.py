"""The model card: front matter that the hub reads, scores with signatures, and nothing of a corpus as markup."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml

from kd.report.card import Card, Corpus, TestSet, render

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
SPEED: dict[str, Any] = {
    "sentences_per_second": 229.0,
    "tokens_per_second": 2290.0,
    "memory_megabytes": 12.34,
    "process_megabytes": 208.0,
    "load_seconds": 0.4,
    "megabytes": 2.1,
    "all_cores": {"cores": 2, "sentences_per_second": 412.0},
    "latency_ms": {"median": 5.1, "p99": 9.8, "sentences": 100},
}


def score(value: float, p_value: float | None = None) -> dict[str, Any]:
    return {"metric": "BLEU", "value": value, "signature": SIGNATURE, "interval": (value - 1, value + 1),
            "p_value": p_value, "baseline": "control"}  # fmt: skip


@pytest.fixture
def card() -> Card:
    return Card(
        name="student-int8",
        title="en-de: student-int8",
        source="en",
        target="de",
        engine="ctranslate2",
        description={
            "compute_type": "int8",
            "max_source_pieces": 128,
            "preprocessing": {"normalization": "identity"},
            "agreement": {"sentences": 200, "identical": 187, "cut": 0, "beam": 4, "chrf": 98.7, "set": "en-de dev"},
        },
        parameters=1_800_000,
        corpora=[Corpus("<script>|`x`", "Apache-2.0", "train", 1234), Corpus("crawl", "unknown", "train", 5)],
        sets=[TestSet("held_out", 1000, "removed 12", [score(34.123456, 0.134)], {"teacher-ensemble": [score(40.6)]})],
        speed=SPEED,
        speed_note="200 sentences",
        speeds={"teacher-ensemble": {**SPEED, "memory_megabytes": 82.1}},
        energy={"kwh": 1.5, "kg_co2e": 0.3, "of": ["teacher"], "missing": ["decode"]},
        machine="localhost",
        fingerprints={"student.en-de/member-1": "abc"},
        made_by="kd",
    )


def front(text: str) -> dict[str, Any]:
    before, matter, _ = text.split("---\n", 2)
    assert before == ""
    content = yaml.safe_load(matter)
    assert isinstance(content, dict)
    return content


def test_front_matter_is_the_hubs(card: Card) -> None:
    content = front(render(card))
    # The hub's own reader objects to what it does not know (huggingface_hub 0.36).
    from huggingface_hub import ModelCard

    model_card = ModelCard(render(card))
    assert model_card.data.language == ["en", "de"]
    assert (model_card.data.pipeline_tag, model_card.data.library_name) == ("translation", "ctranslate2")
    assert model_card.data.eval_results is not None
    [result] = model_card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("bleu", 34.123456, "held_out")
    assert content["license"] == "unknown"


def test_it_says_what_was_measured_and_how(card: Card) -> None:
    text = render(card)
    assert f"- BLEU: `{SIGNATURE}`" in text
    assert "leakage guard: **removed 12 (training pairs that match this test set)**" in text
    assert "| **student-int8** | 34.1 ± 1.0 |" in text
    assert "| teacher-ensemble | 40.6 ± 1.0 |" in text
    assert "BLEU: p = 0.134: how likely a difference from control this large would be by the luck of" in text
    assert "187 of 200 sentences" in text
    assert "| memory for inference, MB | 12.3 | 82.1 |" in text
    assert "| sentences per second, 2 cores | 412 | 412 |" in text
    assert "1.5 kWh, 0.3 kg CO2e, measured in teacher. Not measured: decode." in text


def test_scores_of_comet_have_four_decimals(card: Card) -> None:
    comet = {**score(0.8123), "metric": "COMET", "interval": (0.8100, 0.8150)}
    text = render(dataclasses.replace(card, sets=[dataclasses.replace(card.sets[0], scores=[comet], others={})]))
    assert "| **student-int8** | 0.8123 ± 0.0025 |" in text


def test_it_says_what_the_model_learned(card: Card) -> None:
    text = render(dataclasses.replace(card, lessons="It started from layers of a teacher."))
    assert "(Kim and Rush, 2016).\nIt started from layers of a teacher.\n\n## Use" in text
    assert "(Kim and Rush, 2016).\n\n## Use" in render(card)


def test_p_below_resolution_is_printed_as_less_than(card: Card) -> None:
    sets = [dataclasses.replace(card.sets[0], scores=[score(34.1, 0.0002)])]
    assert "BLEU: p < 0.001: how likely" in render(dataclasses.replace(card, sets=sets))


def test_where_every_sentence_reached_the_longest_length_nothing_is_said_to_agree(card: Card) -> None:
    nothing = {"sentences": 0, "identical": 0, "cut": 200, "beam": 4, "chrf": None, "set": "en-de dev"}
    text = render(dataclasses.replace(card, description={**card.description, "agreement": nothing}))
    assert "of 200 sentences (en-de dev, beam 4) none could be compared: all reached the maximum length.\n\n" in text
    assert "have the same translation" not in text and "have the same translation" in render(card)


def test_names_are_no_markup(card: Card) -> None:
    text = render(card)
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "| \\<script\\>\\|\\`x\\` | train | 1,234 | Apache-2.0 |" in text
    assert "The licence of crawl is not stated." in text
    assert "No licence was chosen for the model (release.licence); the licences of its data may apply." in text
    assert "The model's licence: CC-BY-4.0." in render(dataclasses.replace(card, licence="CC-BY-4.0"))


def test_what_was_not_measured_is_said(card: Card) -> None:
    bare = dataclasses.replace(card, sets=(), speed=None, speeds={}, energy=None, corpora=(), parameters=None)
    text = render(bare)
    assert text.count("Not measured.") == 3
    assert "model-index" not in front(text)


def test_a_card_of_several_pairs_has_the_scores_of_each(card: Card) -> None:
    description = {**card.description, "source_languages": ["en"], "target_languages": ["da", "sv"], "tags": ["<2da>"]}
    sets = [dataclasses.replace(card.sets[0], pair=pair) for pair in ("en-da", "en-sv", "en-zh")]
    other = SIGNATURE.replace("13a", "zh")
    sets[2] = dataclasses.replace(sets[2], scores=[{**score(20.0), "signature": other}])
    weak = {"segments": 9, "empty": 1, "runaway": 0, "copied": None, "guards": {}, "numbers": None,
            "placeholders": None, "names": None}  # fmt: skip
    several = dataclasses.replace(
        card, source="en", target="da, sv", description=description, sets=sets, weaknesses_of={"en-da": weak}
    )
    text = render(several)
    content = front(text)
    assert content["language"] == ["en", "da", "sv"]
    assert [each["task"]["name"] for each in content["model-index"][0]["results"]] == [
        "Translation en-da", "Translation en-sv", "Translation en-zh",
    ]  # fmt: skip
    assert "Translates en to da, sv." in text
    assert f"- BLEU: `{SIGNATURE}` / `{other}`\n" in text
    assert "kd translate --model . --to da < source > target" in text and 'Translator(".", to="da")' in text
    assert '["<2da>"] + pieces.encode(text, out_type=str)' in text
    assert "en-sv, held\\_out, 1,000 segments" in text
    assert "Of 9 test segments (en-da): 1 empty" in text


def test_languages_metrics_and_normalisation_of_others_are_no_markup(card: Card) -> None:
    evil = "x`</code><script>alert(1)</script>\n\n# title\x1b[31m"
    description = {**card.description, "preprocessing": {"normalization": evil}, "compute_type": evil}
    description |= {"source_languages": [evil], "target_languages": [evil, "de"], "tags": True}
    scores = [{**score(1.0), "metric": evil, "signature": evil}]
    sets = [TestSet("held_out", 10, "clean", scores)]
    text = render(dataclasses.replace(card, source=evil, target=evil, description=description, sets=sets))
    body = text.split("---\n", 2)[2]
    assert "\x1b" not in body
    assert "\n# title" not in body
    for line in body.split("\n"):
        if not line.startswith("    "):  # an indented block is code, in which no markup has an effect
            escaped = re.sub(r"\\.", "", line)
            assert "<script" not in re.sub(r"`[^`]*`", "", escaped)


def test_utilisation_stands_beside_the_energy(card: Card) -> None:
    assert "MFU" not in render(card)
    text = render(dataclasses.replace(card, mfu=0.414))
    assert "Its training used 41 % of the peak of its devices (model FLOPs utilisation, MFU)." in text
