"""Convert a segment of a translation memory, inline elements included, to plain text.

TMX 1.4b, section 3.3: bpt, ept, ph, it and ut hold native code of the format that was translated, such as HTML or RTF;
sub is separate text inside such code; hi is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lxml import etree

CODE = frozenset(("bpt", "ept", "ph", "it", "ut", "sub"))
BREAK_TYPES = frozenset(("lb", "pb", "cb", "x-tab", "tab"))  # TMX 1.4b, 4.1, values of `type`: line, page, column break
# Elements of HTML and its kin that begin on a line or in a cell of their own (HTML Living Standard, section 15.3.3)
_BLOCKS = (
    "address|article|aside|blockquote|br|caption|center|dd|details|dialog|dir|div|dl|dt|fieldset|figcaption|figure|"
    "footer|form|h[1-6]|header|hr|li|listing|main|menu|nav|ol|optgroup|option|p|para|pre|section|summary|tab|table|tbody|"
    "td|tfoot|th|thead|tr|ul|w:br|w:p|w:tab|w:tr|w:tc"
)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCKS})(?=[\s/>])", re.IGNORECASE)
_BREAK_CODE = re.compile(r"\\(?:line|par|tab|page|cell|row)\b|[\n\t]")
_WRITTEN_SPACE = re.compile(r"(?:\\[nrtfv~])+")  # escapes of C and RTF that stand for white space, and nothing else
_SPACE_ENTITY = re.compile(
    r"&(?:nbsp|ensp|emsp|thinsp|Tab|NewLine|#0*(?:9|10|13|32|160)|#x0*(?:9|a|d|20|a0));", re.IGNORECASE
)
# Variables of message formats: {0} {name} ${x} {{x}} %s %1$s %(name)s %@ %name% $1 $name
VARIABLE = re.compile(
    r"\$?\{\{?[\w.,: #-]*\}?\}"
    r"|%(?:\d+\$)?[-+0#]*\d*(?:\.\d+)?(?:l{0,2}|h{0,2}|[jzt])[diouxXeEfFgGcsaA]\b|%@"
    r"|%\(\w+\)[sdif]|%\d+|%\w+%|\$\d+|\$\w+"
)


def segment_text(element: etree._Element, keep_codes: bool = False) -> str:
    """Return the text of a segment.

    Args:
        element: The `seg` or an element in it.
        keep_codes: Keep native code that is a variable of a message, such as `{0}` or `%s`, as text.
    """
    if not len(element):
        return element.text or ""
    parts: list[str] = []
    _collect(element, parts, keep_codes)
    return "".join(parts)


def _collect(element: etree._Element, parts: list[str], keep_codes: bool) -> None:
    parts.append(element.text or "")
    for child in element:
        tail = child.tail or ""
        if isinstance(child.tag, str):  # no comment, no processing instruction
            if child.tag.rpartition("}")[2] not in CODE:
                _collect(child, parts, keep_codes)
            else:
                parts.append(_stands_for(child, parts, tail, keep_codes))
        parts.append(tail)


def _stands_for(code: etree._Element, parts: Sequence[str], tail: str, keep_codes: bool) -> str:
    """Return the replacement for an element of native code: nothing, a space, or a variable."""
    native = "".join(str(text) for text in code.itertext())
    if keep_codes and VARIABLE.fullmatch(native.strip()):
        return native.strip()
    separates = code.get("type") in BREAK_TYPES or _is_space(native)
    return " " if separates and tail and not tail[0].isspace() and not _ends_in_space(parts) else ""


def _is_space(native: str) -> bool:
    """Return whether native code is white space, breaks a line, or begins or ends a block."""
    if native and not _SPACE_ENTITY.sub("", native).strip():
        return True
    return bool(_WRITTEN_SPACE.fullmatch(native) or _BREAK_CODE.search(native) or _BLOCK_TAG.search(native))


def _ends_in_space(parts: Sequence[str]) -> bool:
    last = next((part for part in reversed(parts) if part), " ")  # no text comes before: no space is wanted either
    return last[-1].isspace()
