"""Text of anybody's in Markdown and in LaTeX: what has a meaning there is escaped, control characters are made visible.

Both are for tables: signatures, which are long, may break in LaTeX.
"""

from __future__ import annotations

from kd.base.escapes import visible

_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar\allowbreak{}",  # signatures are long
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
}


def markdown_text(text: str) -> str:
    """Text in GitHub's Markdown, in a table as well."""
    return "".join(f"\\{char}" if char in "\\`*_|<>[]" else char for char in visible(text))


def latex_text(text: str) -> str:
    """Text in LaTeX."""
    return "".join(_LATEX.get(char, char) for char in visible(text))
