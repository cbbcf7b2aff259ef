"""MkDocs hook: checks links that leave docs/ and points them to the repository.

On a code host `../recipes/demo/README.md` works as it is. In the site such a link becomes the file's address below
`repo_url`, or plain text while mkdocs.yml sets no `repo_url`.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)")
log = logging.getLogger("mkdocs.hooks.links")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of one page; a link to a missing file is a warning, which `--strict` makes an error."""
    root = Path(config.config_file_path).parent

    def rewrite(match: re.Match[str]) -> str:
        text, up, below, anchor = match.groups()
        target = Path(os.path.normpath(root / "docs" / Path(page.file.src_path).parent / up / below))
        if target.is_relative_to(root / "docs"):
            return match[0]
        path = target.relative_to(root).as_posix()
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_path, path)
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor or ''})"
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK.sub(rewrite, markdown)
