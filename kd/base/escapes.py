"""Make control characters in untrusted text visible, so that no terminal or browser acts on them."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return a text with visible symbols in place of control characters.

    C0 controls and DEL become control pictures (U+2400 …). C1 controls, line separators and directional overrides,
    which could reorder the surrounding text, become escapes such as `\u202e`.
    """
    return text.translate(_VISIBLE)


def visible_lines(text: str) -> str:
    """Return a text as `visible` does, with its line breaks: for messages of several lines."""
    return text.translate(_VISIBLE_LINES)


_VISIBLE = {code: chr(0x2400 + code) for code in range(32)} | {0x7F: "\u2421"}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x80, 0xA0), 0x2028, 0x2029)}
_VISIBLE |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_VISIBLE_LINES = {code: sign for code, sign in _VISIBLE.items() if code != 0x0A}
