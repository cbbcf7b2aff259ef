"""Pages of the documentation are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/README.md"), *ROOT.glob("*/README.md")]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_begins_with_its_title(page: Path) -> None:
    lines = [line for line in page.read_text("utf-8").split("\n") if not line.startswith("<!--")]
    start = lines.index("---", 1) + 1 if lines[0] == "---" else 0  # settings of the page, for mkdocs
    assert next(line for line in lines[start:] if line).startswith("# "), "a part of the page is lost"
