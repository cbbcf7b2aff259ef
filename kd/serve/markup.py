"""Split HTML into markup, which stays unchanged, and text to translate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from html.parser import HTMLParser

UNTRANSLATED = {"script", "style", "code", "pre", "textarea", "template", "noscript", "svg", "math", "kbd", "samp"}
_EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Document(HTMLParser):
    """A parsed fragment: `texts` are to be translated, `joined` inserts the translations.

    Each run of text between two tags is translated by itself. Text within `UNTRANSLATED` elements, and within elements
    with `translate="no"` or the class `notranslate`, stays unchanged.
    """

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._parts: list[str | int] = []  # markup, or the number of a text
        self._open: list[tuple[str, bool]] = []  # elements, and whether their text stays as it is
        self.feed(source)
        self.close()

    def joined(self, translations: Sequence[str]) -> str:
        """Return the document with its texts replaced by escaped translations."""
        return "".join(
            part if isinstance(part, str) else escape(translations[part], quote=False) for part in self._parts
        )

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag, and note whether the text within it stays untranslated."""
        self._parts.append(self.get_starttag_text() or "")
        if tag in _EMPTY:
            return
        values = dict(attrs)
        stays = tag in UNTRANSLATED or values.get("translate") == "no"
        stays = stays or "notranslate" in (values.get("class") or "").split()
        self._open.append((tag, stays or self._stays))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag that closes itself."""
        self._parts.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        """Keep a tag, and close its element with all that are open within it."""
        self._parts.append(f"</{tag}>")
        places = [place for place, (name, _) in enumerate(self._open) if name == tag]
        if places:
            del self._open[places[-1] :]

    def handle_data(self, data: str) -> None:
        """Collect text; the space around it stays."""
        bare = data.strip()
        if self._stays or not bare:
            in_raw = bool(self._open) and self._open[-1][0] in ("script", "style")
            self._parts.append(data if in_raw else escape(data, quote=False))
            return
        before, _, after = data.partition(bare)
        self._parts += [before, len(self.texts), after]
        self.texts.append(" ".join(bare.split()))

    def handle_comment(self, data: str) -> None:
        """Keep a comment."""
        self._parts.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        """Keep a declaration such as the document type."""
        self._parts.append(f"<!{decl}>")

    def handle_pi(self, data: str) -> None:
        """Keep a processing instruction."""
        self._parts.append(f"<?{data}>")

    def unknown_decl(self, data: str) -> None:
        """Keep a marked section."""
        self._parts.append(f"<![{data}]>")

    @property
    def _stays(self) -> bool:
        return bool(self._open) and self._open[-1][1]


class Text:
    """A text whose lines are translated."""

    def __init__(self, source: str) -> None:
        self.texts = source.split("\n")

    def joined(self, translations: Sequence[str]) -> str:
        """Return the text with its lines replaced."""
        return "\n".join(translations)


Parsed = Text | Document
parsers: dict[str, Callable[[str], Parsed]] = {"text": Text, "html": Document}
