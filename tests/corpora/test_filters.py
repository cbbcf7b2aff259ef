"""Each filter rejects at its threshold and not before; normalisation mends what nobody sees and keeps content."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kd.base.errors import UserError
from kd.corpora.filters import KINDS, parse
from kd.corpora.filters.characters import scripts_of
from kd.corpora.filters.contract import Filter, PairFilter, Rewriter
from tests.corpora.samples import TORTURE


def made(kind: str, languages: tuple[str, str] = ("en", "de"), **settings: Any) -> Filter[Any]:
    (setting,) = parse({kind: settings})
    return setting.make(languages)


@pytest.mark.parametrize(
    ("kind", "settings", "source", "target", "rejected"),
    [
        ("empty", {}, "", "b", True),
        ("empty", {}, "a", " \u2028\u00a0", True),
        ("empty", {}, "a", "b", False),
        ("length", {"max_words": 3}, "a b c", "d e f", False),
        ("length", {"max_words": 3}, "a b c d", "d e f", True),
        ("length", {"max_words": 3}, "a", "d e f g", True),
        ("length", {"max_characters": 20}, "x" * 20, "y" * 20, False),
        ("length", {"max_characters": 20}, "x" * 20, "y" * 21, True),
        ("length", {"min_words": 2}, "a b", "c", False),
        ("length", {"min_words": 2}, "a", "b c", True),
        ("ratio", {"most": 2, "slack": 4}, "xx", "y" * 8, False),  # (8 + 4) / (2 + 4) = 2
        ("ratio", {"most": 2, "slack": 4}, "xx", "y" * 9, True),
        ("ratio", {"most": 2, "slack": 4}, "y" * 9, "xx", True),
        ("copies", {}, "same", "same ", True),
        ("copies", {}, "Same", "same", False),
        ("copies", {"normalised": True}, "Same, here!", "same here", True),
        ("copies", {"min_words": 2}, "Paris", "Paris", False),
        ("scripts", {}, "Красный Red", "Roter Platz", True),
        ("scripts", {}, "Красный Red Square", "Roter Platz", False),  # 7 of 16 letters
        ("scripts", {}, "1 + 1 = 2 ½ 😀", "—", False),
        ("repetition", {}, "no no no no no", "nein", True),
        ("repetition", {}, "no no no no", "nein", False),
        ("repetition", {}, "no no no no no", "nein nein nein nein nein", False),
        ("repetition", {}, "a b a b a b a b a b", "ab", True),
        ("repetition", {}, "- - - - - - - -", "-", False),
        ("repetition", {"most": 1}, "the the house", "das Haus", True),
        ("markup", {}, "a <b>bold</b> word", "ein <b>fettes</b> Wort", False),
        ("markup", {}, "a <b>bold</b> word", "ein fettes Wort", True),
        ("markup", {"mirrored": False}, "a <b>bold</b> word", "ein <b>fettes</b> Wort", True),
        ("markup", {}, "if a < b and c > d", "wenn a kleiner b", False),
        ("markup", {}, "one&nbsp;space", "ein Abstand", True),
        ("markup", {}, "=A1&E2;B3", "=E2&A1;B3", False),
        ("markup", {}, "well @-@ known", "wohlbekannt", True),
        ("markup", {}, "for", "f\ufffdr", True),
        ("markup", {}, "a wiki's word", "eines [[Wikis]] Wort", True),
        ("markup", {}, "the {name} of [1]", "der {name} von [1]", False),
        ("markup", {}, "R&D; and more", "F&E; und mehr", False),
    ],
)
def test_a_filter_rejects_at_its_threshold(
    kind: str, settings: dict[str, Any], source: str, target: str, rejected: bool
) -> None:
    assert made(kind, **settings).rejects(source, target) is rejected


@pytest.mark.parametrize(
    ("source", "target", "rejected"),
    [
        ("1,000 euros", "1.000 Euro", False),
        ("1,000 euros", "1 000 Euro", False),
        ("10000 euros", "10\u202f000 Euro", False),
        ("1,250.50", "1 250,50", False),
        ("in the 21st century", "im 21. Jahrhundert", False),
        ("on 2009-06-19", "am 19. Juni 2009", False),  # the month is a word
        ("June 19, 2009", "19.06.2009", False),
        ("at 3:45 pm", "um 15:45 Uhr", False),  # a 12-hour clock
        ("two dogs", "2 Hunde", False),
        ("20 dogs", "zwanzig Hunde", False),
        ("the summer of '98", "der Sommer 1998", False),
        ("page ٢٠٠٩", "Seite 2009", False),
        ("007", "7", False),
        ("in 1971", "im Jahr 1972", True),
        ("15%", "25%", True),
        ("12,848 accesses since 2005", "12.856 Zugriffe seit 2005", True),
        ("from 14 to 21", "von 21 bis 14", False),
        ("50 and 50", "50", False),
        ("10,000", "1万", False),
        ("It costs 100 euros.", "Es kostet 1.000.000 Euro.", True),
        ("Article 123", "Artikel 321", True),
        ("Directive 95/46/EC", "Richtlinie 95/64/EG", True),
        ("EUR 15 million", "51 Mio. EUR", True),
        ("25 people", "125 Menschen", True),
        ("In 1945 the war ended.", "Im Jahr 1954 endete der Krieg.", True),
        ("50 kg", "500 kg", True),
        ("up to 9,500 staff", "bis zu 95000 Aushilfen", True),
        ("98 people", "1598 Leute", True),
        ("140,000 units", "140000 Einheiten", False),
        ("250 thousand", "250.000", False),
        ("HUF 4,320,000", "4.32 Mio Forint", False),
        ("chapter 12 300 pages", "Kapitel 12, 300 Seiten", False),
        ("20090612", "2009-06-12", False),
        ("around 1530 hours", "gegen 15.30 Uhr", False),
        ("at 11:45 PM", "um 23.45 Uhr", False),
        ("call 0800/688 8000", "Telefon 0800/6888000", False),
        ("in 2003 it came to 6,800", "in 6800 lag er bei 6.800", True),
        ("Chapter XIV, twelve pages", "Kapitel 14, 12 Seiten", False),
        ("12.5 %", "12,7 %", True),
        ("3.5 %", "35 %", True),
        ("3.5 times", "5,3 mal", True),
        ("1,234.5 kg", "1.234,6 kg", True),
        ("12.50 euros", "1250 Euro", True),
        ("100 euros", "100.000 Euro", True),
        ("1.5 million", "15 Mio.", True),
        ("EUR 15 million", "150 Mio. EUR", True),
        ("250 thousand", "2.500.000", True),
        ("1.2 billion", "1.200 Millionen", False),
        ("41.78 lakh cases", "4.178.000 Fälle", False),
        ("12,34,567 rupees", "1.234.567 Rupien", False),
        ("0.0372", "0,03720", False),
        ("0.6143396437", "0,61", False),
        ("at 3.30 pm", "um 15.30 Uhr", False),
        ("at 3.30 pm", "um 15:30 Uhr", False),
        ("=SUM(1,2)", "=SUMME(1;2)", False),
        ("on 1 May", "am 1.5. in Rom", False),
        ("one and a half hours", "1,5 Stunden", False),
    ],
)
def test_numbers_match_however_they_are_written(source: str, target: str, rejected: bool) -> None:
    assert made("numbers").rejects(source, target) is rejected
    assert made("numbers").rejects(target, source) is rejected


def test_numbers_on_one_side_count_where_a_recipe_says_so() -> None:
    assert made("numbers", one_sided=False).rejects("20 dogs", "zwanzig Hunde")
    assert not made("numbers", one_sided=False).rejects("2 dogs", "zwei Hunde")
    assert made("numbers", one_sided=False, small=0).rejects("2 dogs", "zwei Hunde")
    assert not made("numbers", most=1).rejects("15%", "25%")


@pytest.mark.parametrize(
    ("source", "target", "rejected"),
    [
        (
            "This is a sentence in the right language, and long enough.",
            "Das ist ein deutscher Satz, lang genug.",
            False,
        ),
        (
            "This is a sentence in the right language, and long enough.",
            "Ceci est une phrase en français, pas en allemand du tout.",
            True,
        ),
        ("Ceci est une phrase en français, pas anglaise du tout.", "Das ist ein deutscher Satz, lang genug.", True),
        ("Bonjour tout le monde", "Hallo Welt", False),  # too short to be sure
        (
            "THIS IS A SENTENCE IN THE RIGHT LANGUAGE, IN CAPITALS.",
            "DAS IST EIN DEUTSCHER SATZ IN GROSSBUCHSTABEN.",
            False,
        ),
    ],
)
def test_another_language_is_told_where_there_is_text_enough(source: str, target: str, rejected: bool) -> None:
    assert made("language").rejects(source, target) is rejected


def test_languages_that_nothing_is_known_of_go_through() -> None:
    for kind in ("language", "scripts"):
        idle = made(kind, ("en", "xx"))
        assert "xx" in idle.idle
        assert not idle.rejects(
            "This is a sentence in the right language.", "Ceci est une phrase en français, je crois."
        )
    assert made("language", ("en", "nb")).idle == ""  # the model calls it `no`
    assert made("language", ("en-GB", "zh-Hant")).idle == ""


def test_scripts_follow_from_language_codes() -> None:
    # The scripts are those of ISO 15924 and CLDR.
    assert scripts_of("el") == ("Greek",)
    assert scripts_of("ja") == ("Han", "Hiragana", "Katakana")
    assert set(scripts_of("sr")) == {"Latin", "Cyrillic"}
    assert scripts_of("sr-Latn-RS") == ("Latn",)
    assert scripts_of("zh_Hant") == ("Han",)
    assert scripts_of("xx") == ()
    greek = made("scripts", ("en", "el"))
    assert not greek.rejects("Microsoft Word", "Microsoft Word")
    assert greek.rejects("hello", "добрый день")
    assert made("scripts", ("en", "el"), latin=False).rejects("Microsoft Word", "Microsoft Word")


def test_characters_that_are_words_are_wide() -> None:
    # Article 1 of the Universal Declaration of Human Rights, first sentence, as the United Nations publish it.
    english = "All human beings are born free and equal in dignity and rights. " * 4
    chinese = "人人生而自由，在尊严和权利上一律平等。" * 4
    assert len(english) / len(chinese) > 3
    assert not made("ratio", ("en", "zh"), slack=0).rejects(english, chinese)
    assert made("ratio", ("en", "de"), slack=0).rejects(english, chinese)


def test_scores_come_from_a_column() -> None:
    score = made("score", column="bicleaner", least=0.5)
    assert [score.rejects_value(value) for value in ("0.5", "0.49", "1e0", "", None, "none")] == [
        False, True, False, False, False, False,
    ]  # fmt: skip
    less_is_better = made("score", column="perplexity", most=100, unscored="drop")
    assert [less_is_better.rejects_value(value) for value in ("100", "100.5", None, "nan")] == [False, True, True, True]
    with pytest.raises(UserError, match="bicleaner"):
        made("score", column="bicleaner", least=0.5, unscored="fail").rejects_value("x")


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("cafe\u0301", "café"),
        ("  two  spaces\tand a tab ", "two spaces and a tab"),
        ("lone \r return, form \f feed, \u2028 and \x85", "lone return, form feed, and"),
        ("10\u00a0000 m²", "10\u00a0000 m²"),  # a single no-break space stays, and so does what NFKC would change
        ("so\u00a0\u00a0far", "so\u00a0far"),
        ("so\u00a0 far", "so far"),
        ("NUL \0 and bell\x07", "NUL and bell"),
        ("a quote from Windows: \x93yes\x94", "a quote from Windows: “yes”"),
        ("\ufeffmark", "mark"),
        ("Mon\u00adday made \u200bpublic", "Monday made public"),
        ("Auf\u200clage", "Auflage"),  # a ligature split for typesetters
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian: content
        ("क्\u200dष", "क्\u200dष"),  # Hindi: content
        ("family 👩‍👩‍👧‍👦, flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "family 👩‍👩‍👧‍👦, flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
        ("ภาษา\u200bไทย", "ภาษา\u200bไทย"),
        ("left\u200f to right\u202e", "left to right"),
        ("שלום\u200f (abc)\u200e", "שלום\u200f (abc)\u200e"),  # where there is right-to-left text, marks are content
        ("Q&amp;A &quot;so&quot; &#91;1&#93;", 'Q&A "so" [1]'),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("well @-@ known and @/@ or", "well-known and/or"),
        ("it &apos;s", "it 's"),
        ("one&nbsp;space", "one&nbsp;space"),
        ("“quotes” stay", "“quotes” stay"),
        ("", ""),
    ],
)
def test_normalisation(text: str, mended: str) -> None:
    assert made("normalise").rewrite(text) == mended


@pytest.mark.parametrize(
    "piece", ["&amp;" * 3, "&" + "amp;" * 3, "\u200d", "\u202eש", "e\u0301", "&#38;#38;", " @-@ ", "7 "]
)
def test_lines_of_a_megabyte_take_no_more_than_their_length(piece: str) -> None:
    # Were time quadratic in the length, this would not end within the patience of anybody.
    line = piece * ((1 << 20) // len(piece))
    assert len(made("normalise").rewrite(line)) <= len(line)
    assert not made("numbers").rejects(line, line + "x")


def test_normalisation_is_told_what_to_do() -> None:
    text = "“a”  ‘b’ &amp; ﬁ\u200b"
    assert made("normalise", quotes="plain").rewrite(text) == "\"a\" 'b' & ﬁ"
    assert made("normalise", unicode="NFKC").rewrite(text) == "“a” ‘b’ & fi"
    off = {"unicode": "none", "characters": False, "whitespace": False, "escapes": False}
    assert made("normalise", **off).rewrite(text) == text


strange = st.text(st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), st.sampled_from(
    "&;#ampltgquos @-/\u200b\u200c\u200d\u00ad\x93\x85\u2028\u00a0\u3000\u0301\u200fשא👩🏴\U000e0067\ufe0f"
)), max_size=40)  # fmt: skip


@given(strange)
@example("&amp;amp;amp;quot;")
@example(" @-@  @-@ ")
@example("&\x00lt;")
@example("e\u200b\u0301")
def test_normalisation_applied_again_changes_nothing(text: str) -> None:
    for settings in ({}, {"unicode": "NFKC", "quotes": "plain"}):
        normalise = made("normalise", **settings)
        once = normalise.rewrite(text)
        assert normalise.rewrite(once) == once
        assert unicodedata.is_normalized("NFC", once)
        assert "  " not in once
        assert once == once.strip()


@pytest.mark.parametrize("line", TORTURE)
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"score"}))
def test_strange_lines_break_no_filter(kind: str, line: str) -> None:
    each = made(kind)
    if isinstance(each, Rewriter):
        assert "\n" not in each.rewrite(line)
    else:
        assert each.rejects(line, line) in (True, False)


def test_filters_are_asked_in_the_stated_order_whatever_their_labels() -> None:
    settings = parse({"mine": {"kind": "length", "order": 65}, "copies": None, "ratio": {"enabled": False}, "empty": {},
                      "numbers": {}, "also": {"kind": "ratio"}})  # fmt: skip
    assert [setting.label for setting in settings] == ["empty", "also", "mine", "numbers"]


def test_a_reserved_label_is_refused() -> None:
    with pytest.raises(UserError, match="duplicates"):
        parse({"duplicates": {"kind": "copies"}})


SERBIAN = "Ово је реченица написана ћирилицом", "Ovo je rečenica napisana latinicom"
CHINESE = "这个问题对我们来说很难说明", "這個問題對我們來說很難說明"


@pytest.mark.parametrize(
    ("code", "good", "bad"),
    [
        ("sr-Cyrl", *SERBIAN), ("sr-Latn", *SERBIAN[::-1]), ("sr_Cyrl-RS", *SERBIAN),
        ("zh-Hans", *CHINESE), ("zh-Hant", *CHINESE[::-1]), ("zh-TW", *CHINESE[::-1]), ("zho-Hans", *CHINESE),
    ],
)  # fmt: skip
def test_a_script_in_the_language_code_is_the_only_one(code: str, good: str, bad: str) -> None:
    scripts = parse({"scripts": {}})[0].make(("en", code))
    assert isinstance(scripts, PairFilter)
    assert not scripts.rejects("a line", good)
    assert scripts.rejects("a line", bad)
    assert not scripts.rejects("a line", f"{good} (MS Word)")


def test_a_language_of_two_scripts_takes_both_without_one_in_its_code() -> None:
    for code, texts in (("sr", SERBIAN), ("zh", CHINESE)):
        scripts = parse({"scripts": {}})[0].make(("en", code))
        assert isinstance(scripts, PairFilter)
        assert not any(scripts.rejects("a line", text) for text in texts)
