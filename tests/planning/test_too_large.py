"""`kd plan` warns of held-out sets and vocabularies that are too large for a small corpus."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kd.cli import main
from kd.pipeline.store import Store
from kd.planning import page
from kd.planning.gather import forecast, size_warnings
from kd.planning.too_large import distinct_words
from kd.recipe import compose

LINES = 120


def warnings(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[str]:
    """Plan a corpus of 120 pairs with 240 distinct words; return its warnings, which the page and the terminal have."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for side in "ab":
        (folder / side).write_text("".join(f"{side}{number} the end\n" for number in range(LINES - 2)), "utf-8")
        (folder / side).open("a", encoding="utf-8").write(f"{side} the end\n" * 2)
    found = forecast(["recipe=files", "source=a", "target=b", *overrides])
    console = Console(file=io.StringIO(), width=400)
    page.show(found, console)
    assert isinstance(console.file, io.StringIO)
    shown = [line.removeprefix("Warning: ") for line in console.file.getvalue().split("\n") if line.startswith("Warn")]
    assert shown == found.warnings == page.to_json(found)["warnings"]
    return shown


def test_sets_of_half_of_the_pairs_or_more_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = "vocabulary.size=200"
    (told,) = warnings(tmp_path, monkeypatch, "split.dev=30", "split.test=30", small)
    assert told.startswith("split.dev=30 and split.test=30 would hold out 60 of about 120 pairs of ")
    assert told.endswith(", half of them or more. Add split.dev=6 split.test=6, or more text.")
    assert not warnings(tmp_path, monkeypatch, "split.dev=30", "split.test=29", small)
    given = ["dev.source=a", "dev.target=b"]
    assert not warnings(tmp_path, monkeypatch, "split.dev=30", "split.test=30", small, *given)


def test_a_vocabulary_of_more_tokens_than_words_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ["split.dev=6", "split.test=6", "vocabulary.byte_fallback=true"]
    # 118 numbered words and the word of one letter on each side, and two words that both sides have.
    words = 2 * 119 + 2
    (told,) = warnings(tmp_path, monkeypatch, f"vocabulary.size={words + 257}", *sets)
    assert told.startswith(
        f"vocabulary.size={words + 257} is more than the corpora have distinct words, about {words}: "
    )
    assert told.endswith("Add vocabulary.size=356, or more text.")
    assert not warnings(tmp_path, monkeypatch, f"vocabulary.size={words + 256}", *sets)


def test_words_are_not_counted_in_scripts_without_spaces() -> None:
    assert distinct_words([("one two", "eins zwei two")]) == 4
    assert distinct_words([("one two", "一二三")]) is None
    assert distinct_words([]) is None


def test_a_run_warns_before_its_first_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (told,) = warnings(tmp_path, monkeypatch, *(sets := ["split.dev=30", "split.test=30", "vocabulary.size=200"]))
    typed = ["run", "recipe=files", "source=a", "target=b", *sets]
    assert main([*typed, "upto=collect"]) == 0
    shown = capsys.readouterr().err
    assert f"Warning: {told}" in shown
    assert shown.index("Warning: ") < shown.index("started")


def test_a_corpus_that_cannot_be_read_is_left_to_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b damaged")
    (tmp_path / "b").write_text("text\n", "utf-8")
    config = compose.compose(compose.parse_request(["recipe=files", "source=a.gz", "target=b"]))
    assert size_warnings(compose.plan(config), config, Store(tmp_path / "store")) == []
