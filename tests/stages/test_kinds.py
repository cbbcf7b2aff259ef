"""Code reads the properties of a kind; it never branches on its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kd
from kd.pipeline.model import Kind
from kd.stages import KINDS, load_kind

SOURCES = sorted(Path(kd.__file__).parent.rglob("*.py"))


def compared_names(tree: ast.AST) -> list[int]:
    """The lines that compare `….kind.name` with something."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if ast.unparse(side).endswith("kind.name")
    ]


def test_no_code_compares_the_name_of_a_kind() -> None:
    found = {path.name: lines for path in SOURCES if (lines := compared_names(ast.parse(path.read_text("utf-8"))))}
    assert found == {}


def test_the_search_for_comparisons_finds_them() -> None:
    assert compared_names(ast.parse('stage.kind.name == "train"\n"x" in (task.stage.kind.name,)')) == [1]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_forecasts_its_work(name: str) -> None:
    assert type(load_kind(name)).forecast is not Kind.forecast
