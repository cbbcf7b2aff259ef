"""docs/development.md: the files that it names exist, and the stage that it adds works as printed."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kd import stages
from kd.pipeline.execute import execute
from kd.pipeline.store import Store
from kd.recipe import compose, schema
from kd.recipe.schema.marks import setting

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "development.md").read_text("utf-8")


def blocks(heading: str) -> list[str]:
    """Return the code blocks of a section, which are indented by eight spaces below a numbered step."""
    section = re.split(r"^## ", PAGE.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    found = re.findall(r"(?:^(?: {8}.*)?\n)+", section, flags=re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") + "\n" for block in found if block.strip()]


def test_a_run_is_followed_through_at_most_twelve_files_of_less_than_400_lines() -> None:
    named = re.findall(r"^\| (\d+) \| `([\w/.]+)` \|", PAGE, flags=re.MULTILINE)
    assert [int(number) for number, _ in named] == list(range(1, len(named) + 1)) and len(named) <= 12
    for _, path in named:
        assert len((ROOT / path).read_text("utf-8").split("\n")) < 400, path


def test_the_stage_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, kind, entry = blocks("Add a stage")
    names = {"dataclass": dataclass, "setting": setting, "__name__": "kd.recipe.schema.corpora"}
    exec(settings, names)
    monkeypatch.setattr(schema, "LengthsConfig", names["LengthsConfig"], raising=False)
    (tmp_path / "lengths_of_the_page.py").write_text(kind, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stages.KINDS, "lengths", "lengths_of_the_page:Lengths")

    monkeypatch.chdir(tmp_path)
    for side in ("en", "de"):
        lines = [" ".join(f"{side}{'klmnopqrst'[n]}{'aeiou'[i]}" for i in range(4 + n % 2)) for n in range(10)]
        Path(f"a.{side}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    chain = yaml.safe_load(entry)["chain"]["lengths"]
    typed = json.dumps(chain).replace('"', "")
    request = compose.parse_request(["recipe=files", "source=a.en", "target=a.de", f"+chain.lengths={typed}"])
    plan = compose.plan(compose.compose(request))
    store = Store(tmp_path / "store")
    (wanted,) = [task for task in plan.tasks() if task.stage.spec.name == "lengths"]
    upstream = [task for task in plan.tasks() if task.stage.spec.name in ("collect", "clean")]
    for task in (*upstream, wanted):
        execute(task, store, threads=1, device="cpu", machine={})
    counts = json.loads((store.paths(wanted).final / "lengths.json").read_text("utf-8"))
    assert counts == {"4": 5, "5": 5}  # four or five words each
    assert store.paths(wanted).manifest()["facts"]["note"] == "2 lengths"
    del sys.modules["lengths_of_the_page"]
