"""`kd run` warns of suspicious training corpora before it starts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kd.launch.launcher import Failure, blocked
from kd.recipe import compose
from kd.recipe.compose import Request
from kd.run import commands
from tests.launch.chain import Chain

RECIPE = """
defaults: [/base, _self_]
pairs: {en-de: {}}
corpus:
  sources:
    WMT-News: {format: plain, source: a, target: b}
    europarl: {format: plain, source: europarl-v7.en, target: b}
    other: {format: plain, source: data/newstest2014.en, target: data/newstest2014.de}
    newstest2018: {format: plain, source: c, target: d, use: test}
"""


@pytest.mark.parametrize(("setting", "alarm"), [("remove", False), ("fail", False), ("off", True), ("false", True)])
def test_known_test_sets_and_a_disabled_guard_are_warned_of(tmp_path: Path, setting: str, alarm: bool) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE, "utf-8")
    console = Console(file=io.StringIO(), width=200)
    commands._warn(compose.compose(Request(str(tmp_path), (f"corpus.leakage={setting}",))), console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "training corpus WMT-News is, by its name, OPUS's WMT-News" in told
    assert "training corpus other is, by its name, a news test or dev set of WMT" in told
    assert "europarl" not in told
    assert "newstest2018" not in told
    assert ("LEAKAGE GUARD OFF" in told) is alarm


def test_an_unquoted_off_in_yaml_disables_the_guard(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("corpus:", "corpus:\n  leakage: off"), "utf-8")
    config = compose.compose(Request(str(tmp_path), ()))
    console = Console(file=io.StringIO(), width=200)
    commands._warn(config, console)
    assert isinstance(console.file, io.StringIO)
    assert "LEAKAGE GUARD OFF" in console.file.getvalue()


def test_tasks_that_could_not_start_are_listed_by_stage(tmp_path: Path) -> None:
    second = {"name": "second", "workers": 3, "inputs": {"many": {"x": "first"}}}
    chain = Chain(tmp_path, {"name": "first"}, second, {"name": "third", "inputs": {"many": {"x": "second"}}})
    tasks = list(chain.plan.tasks())
    failures = [Failure(tasks[0], "The user erred.", Path("log"), 2)]
    console = Console(file=io.StringIO(), width=200)
    commands._tell([*failures, *blocked(tasks, failures)], console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue().rstrip("\n").split("\n")
    assert told[-1] == "Not started, because they need these: second (3 tasks), third (1 task)"
