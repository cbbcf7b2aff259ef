"""`kd plan` lists the values that the command line changes, with the recipe's own."""

from __future__ import annotations

import pytest

from kd.recipe.changes import changes
from kd.recipe.compose import compose, parse_request


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            [
                "student.optimizer.learning_rate=0.002",
                "decode.beam=8",
            ],  # conf/student/tiny_4_2.yaml, recipes/demo/recipe.yaml
            ["student.optimizer.learning_rate=0.002 (recipe: 0.004)", "decode.beam=8 (recipe: 4)"],
        ),
        (["student.distill.stored=true", "decode.beam=4"], []),  # as in the recipe
        (["student.distill.stored=false"], ["student.distill.stored=false (recipe: true)"]),
        (["student.start.learning_rate=null"], ["student.start.learning_rate=null (recipe: 0.005)"]),
        (["select.metric=chrf"], ["select.metric=chrf (recipe: bleu)"]),
        (["run.dir=elsewhere", "store.dir=elsewhere", "launcher.processes=1"], []),  # places and computers
        (["student=small_6_1", "student.model.width=128"], ["student.model.width=128 (recipe: 256)"]),
    ],
)
def test_changed_values_of_the_demo(typed: list[str], told: list[str]) -> None:
    request = parse_request(["recipe=demo", *typed])
    assert changes(request, compose(request)) == told


def test_a_password_that_was_typed_is_masked() -> None:
    request = parse_request(["recipe=demo", "corpus.sources.home_assistant.files=https://me:geheim@example.org/x"])
    (told,) = changes(request, compose(parse_request(["recipe=demo", "corpus.sources.home_assistant.files=other"])))
    assert "geheim" not in told
    assert told.startswith("corpus.sources.home_assistant.files=https://")
