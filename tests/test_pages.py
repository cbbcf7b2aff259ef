"""Pages of the documentation are whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/README.md"), *ROOT.glob("*/README.md")]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_begins_with_its_title(page: Path) -> None:
    lines = [line for line in page.read_text("utf-8").split("\n") if not line.startswith("<!--")]
    start = lines.index("---", 1) + 1 if lines[0] == "---" else 0  # settings of the page, for mkdocs
    assert next(line for line in lines[start:] if line).startswith("# "), "a part of the page is lost"


def test_every_test_that_the_page_on_security_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8")))
    text = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20 and not [name for name in named if f"def {name}(" not in text]
