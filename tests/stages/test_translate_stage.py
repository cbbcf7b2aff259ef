"""The stage translate: output of systems from elsewhere is taken as it is, or refused; the robustness suite."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kd.base.errors import UserError
from kd.base.hashing import sha256
from kd.base.progress import Progress
from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Pair
from kd.corpora.robustness import read_cases, suite
from kd.pipeline.model import Artifact, Job
from kd.recipe import compose
from kd.recipe.schema import HeldOut, RobustnessConfig, TranslateConfig
from kd.stages.outputs import HYPOTHESES, ROBUSTNESS_CASES
from kd.stages.translate import Translate

LINES = ["eins\u2028zwei", "", "drei\r"]


@pytest.fixture
def job(tmp_path: Path) -> Job[TranslateConfig]:
    """Output of a system `opus-mt` for three segments."""
    write_heldout(tmp_path / "split", "en-de", {"test": [Pair(i, text, text) for i, text in enumerate("abc")]})
    path = tmp_path / "opus.de.gz"
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in LINES).encode()))
    config = TranslateConfig(beam=4, max_pieces=8, given={"opus-mt": "opus.{target}.gz"}, root=str(tmp_path))
    held_out = Artifact(tmp_path / "split", "held_out", "split", "all", "f", None, {}, {})
    (tmp_path / "out").mkdir()
    return Job("opus-mt", "translate.en-de", config, {"given": True}, "en-de", {"source": "en", "target": "de"},
               {"held_out": [held_out]}, {path: sha256(path)}, tmp_path / "out", [], 1, 1, "cpu", {},
               Progress(None))  # fmt: skip


def test_it_is_taken_over_as_it_is(job: Job[TranslateConfig]) -> None:
    Translate().run(job)
    summary = Translate().check(job)
    # A \r before \n is part of the line's end.
    assert (job.out / HYPOTHESES).read_bytes() == "eins\u2028zwei\n\ndrei\n".encode()
    assert (summary.counts, summary.facts) == ({"segments": 3}, {"note": "made elsewhere"})


def test_it_has_a_line_for_each_segment(job: Job[TranslateConfig], tmp_path: Path) -> None:
    write_heldout(tmp_path / "split", "en-de", {"test": [Pair(1, "a", "a")]})
    with pytest.raises(UserError, match=r"given\.opus-mt\) has 3 lines, and the test sets of en-de have 1 segments"):
        Translate().run(job)


def test_it_is_the_file_that_was_planned_with(job: Job[TranslateConfig]) -> None:
    with pytest.raises(UserError, match="has changed since the run was planned"):
        Translate().run(replace(job, files=dict.fromkeys(job.files, "another")))


# --- the robustness suite --------------------------------------------------------------------------------------------

SENTENCES = ["The kitchen clock is slow.", "Our neighbour feeds the birds."]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The batches that a system was given, which writes every source backwards, on two lines."""
    given: list[list[str]] = []

    def load(*_: object, **__: object) -> Callable[..., list[str]]:
        def translate(sources: Sequence[str], progress: object = None) -> list[str]:
            given.append(list(sources))
            return [f"{source[::-1]}\n." for source in sources]

        return translate

    monkeypatch.setattr("kd.stages.translate.load", load)
    return given


@pytest.fixture
def own(job: Job[TranslateConfig], tmp_path: Path) -> Job[TranslateConfig]:
    """The same task for a system of the run."""
    write_heldout(tmp_path / "split", "en-de", {name: [Pair(i, text, text) for i, text in enumerate(SENTENCES)]
                                                for name in ("test", "dev")})  # fmt: skip
    config = replace(job.config, given={}, robustness=RobustnessConfig(enabled=True, sentences=1, seed=5))
    return replace(job, identity={}, config=config, inputs={**job.inputs, "systems": []})


def test_the_suite_is_translated_apart_from_the_test_set(own: Job[TranslateConfig], batches: list[list[str]]) -> None:
    Translate().run(own)
    expected = suite(SENTENCES, "en", 1, 5)
    assert batches == [SENTENCES, [case.source for case in expected]]
    assert [case.output for case in read_cases(own.out / ROBUSTNESS_CASES)] == [
        f"{case.source[::-1]} ." for case in expected
    ]
    assert Translate().check(own).counts == {"segments": 2, "inputs of the robustness suite": len(expected)}


@pytest.mark.parametrize("change", [{"set": HeldOut.dev}, {"robustness": RobustnessConfig(enabled=False)}])
def test_dev_sets_and_recipes_without_it_have_no_suite(
    own: Job[TranslateConfig], batches: list[list[str]], change: dict[str, Any]
) -> None:
    without = replace(own, config=replace(own.config, **change))
    Translate().run(without)
    assert batches == [SENTENCES]
    assert Translate().check(without).counts == {"segments": 2}
    assert not (own.out / ROBUSTNESS_CASES).exists()


def test_without_the_suite_fingerprints_are_those_from_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\n", "utf-8")

    def settings(*overrides: str) -> list[object]:
        request = compose.parse_request(["recipe=files", "source=a", "target=b", *overrides])
        plan = compose.plan(compose.compose(request))
        return [task.identity.get("robustness") for task in plan.tasks() if task.stage.kind.name == "translate"]

    with_suite = settings()
    assert with_suite and all(each == {"enabled": True} for each in with_suite)
    assert set(settings("evaluate.robustness.enabled=false")) == {None}
