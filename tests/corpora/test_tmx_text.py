"""Native code between two words of a translation memory becomes a space where it separates them, else nothing."""

from __future__ import annotations

import pytest
from lxml import etree

from kd.corpora.tmx_text import segment_text


def text(markup: str, keep_codes: bool = False) -> str:
    """Return the text of a segment."""
    return segment_text(etree.fromstring(f"<seg>{markup}</seg>"), keep_codes)


@pytest.mark.parametrize(
    ("code", "between"),
    [
        ("<ph> </ph>", " "),
        ("<ph>\t</ph>", " "),
        (r"<ph>\t</ph>", " "),
        (r"<ph>\n\n</ph>", " "),
        ("<ph>&amp;nbsp;</ph>", " "),
        ("<ph>&amp;#160;</ph>", " "),
        ("<ph>\u00a0</ph>", " "),
        ("<it pos='end'>&lt;/p&gt;</it>", " "),
        ("<ph>&lt;td class='x'&gt;</ph>", " "),
        ("<ph>&lt;LI&gt;</ph>", " "),
        ("<ph>&lt;br/&gt;</ph>", " "),
        (r"<ph>\line </ph>", " "),
        ("<ph type='x-tab'>&lt;tab/&gt;</ph>", " "),
        ("<ph type='lb'/>", " "),
        ("<ph>&amp;shy;</ph>", ""),
        ("<bpt i='1'>&lt;b&gt;</bpt>", ""),
        (r"<ph>\new</ph>", ""),
        ("<ph>&lt;image/&gt;</ph>", ""),
        ("<ph>{0}</ph>", ""),
        ("<hi>x</hi>", "x"),
    ],
)
def test_code_between_two_words(code: str, between: str) -> None:
    assert text(f"one{code}two") == f"one{between}two"
    assert text(f"one {code}two") == (f"one {between.strip()}two")


@pytest.mark.parametrize("variable", ["{0}", "{name}", "%s", "%1$s", "%(name)s", "%d", "%@", "${user}", "%NAME%"])
def test_variables_are_kept_where_a_recipe_says_so(variable: str) -> None:
    assert text(f"You have <ph>{variable}</ph> messages", keep_codes=True) == f"You have {variable} messages"
    assert text(f"You have <ph>{variable}</ph> messages") == "You have  messages"
    assert text(f"one<ph>&lt;b&gt;{variable}</ph>two", keep_codes=True) == "onetwo"
