"""Guards on literal hypotheses, good and bad, and on human translations, which trip hardly any."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kd.corpora.guards import NAMES, Guards, loops, most_repeated
from kd.recipe import compose
from kd.recipe.schema import GuardsConfig
from tests.messages import messages

LONG_SOURCE = "The Commission shall inform the Member States of every measure that it takes under this Article."
LONG_TARGET = "Die Kommission unterrichtet die Mitgliedstaaten über jede Maßnahme, die sie nach diesem Artikel trifft."

CONFIG = GuardsConfig(
    empty=True, copy=True, copy_words=4, length=True, max_ratio=3.0, ratio_slack=12, repetition=True, repeats=2,
    language=True, language_letters=40, language_probability=0.8,
)  # fmt: skip


def check(source: str, hypothesis: str, pair: str = "en-de", config: GuardsConfig = CONFIG) -> str | None:
    return Guards(config, *pair.split("-")).check(source, hypothesis)


BAD = [
    ("Yes.", "", "empty"),
    ("Yes.", " \u00a0\t", "empty"),
    # What sentencepiece and fairseq write for a symbol that they lack, and Python for bytes that are not UTF-8.
    ("Yes.", " ⁇  ⁇ ", "unknown"),
    (LONG_SOURCE, LONG_TARGET.replace("Kommission", "\ufffd\ufffd"), "unknown"),
    ("This is the house.", "Das ist <unk> Haus.", "unknown"),
    ("Yes.", "▁", "unknown"),
    (LONG_SOURCE, LONG_SOURCE, "copy"),
    (LONG_SOURCE, LONG_SOURCE.upper().replace(",", " ;"), "copy"),
    ("He has never been here.", "he has never been here", "copy"),
    (LONG_SOURCE, "Ja.", "length"),
    ("Yes.", LONG_TARGET, "length"),
    (LONG_SOURCE, "Die Kommission und und und unterrichtet die Mitgliedstaaten.", "repetition"),
    (LONG_SOURCE, "Die Kommission und und unterrichtet die Mitgliedstaaten davon.", "repetition"),
    (LONG_SOURCE, "Die Kommission Kommission unterrichtet die Staaten Staaten davon.", "repetition"),
    (LONG_SOURCE, "Die Kommission in der in der in der Kommission.", "repetition"),
    (LONG_SOURCE, "Es tut mir leid, " * 3 + "es tut.", "repetition"),
    (LONG_SOURCE, "Die Kommission unterrichtet jede Maßnahme, " * 4, "repetition"),
    (LONG_SOURCE, "Die Donau" + "donau" * 12 + "gesellschaft unterrichtet die Staaten.", "repetition"),
    (LONG_SOURCE, "The European Commission tells all its member states about whatever it does here.", "language"),
    (LONG_SOURCE, "La Commission informe les États membres de toute mesure qu'elle prend au titre du présent article.",
     "language"),
]  # fmt: skip

GOOD = [
    ("", ""),
    ("", "Ja."),
    (LONG_SOURCE, LONG_TARGET),
    ("Yes.", "Ja."),
    ("OK", "In Ordnung"),
    ("The symbol <unk> is written ⁇.", "Das Zeichen <unk> wird ⁇ geschrieben."),
    ("U+2581 is ▁x.", "U+2581 ist ▁x."),
    ("12", "12"),
    ("§", "§"),
    ("Article 12", "Artikel 12"),
    ("Article 12", "Article 12"),  # bad, but too short to be sure
    ("Jean-Claude Juncker, Angela Merkel, Emmanuel Macron, Mark Rutte", "Jean-Claude Juncker, Angela Merkel, "
     "Emmanuel Macron, Mark Rutte"),
    ("1 2 3 4 5 6 7 8", "1 2 3 4 5 6 7 8"),
    ("=SUM(A1:A5) + 4 = SQRT(9)", "=SUM(A1:A5) + 4 = SQRT(9)"),
    ("https://example.org/a/very/long/path?with=arguments", "https://example.org/a/very/long/path?with=arguments"),
    ("People who lock the door and those who open it.", "Menschen, die die Tür schließen, und jene, die sie öffnen."),
    ("He thinks that those who see the people they like and whom they call friends will be glad to help them here.",
     "Er denkt, dass die, die die Leute sehen, die sie mögen und die sie sie nennen lassen, ihnen hier gern helfen, "
     "wenn es dazu kommt."),
    ("no no no no", "nein nein nein nein"),
    ("Day by day by day, more and more and more.", "Tag für Tag für Tag, mehr und mehr und mehr."),
    ("Name ...................................... 12", "Name .............................................. 12"),
    ("0 0 0 0 0 0", "0 0 0 0 0 0"),
    ("The film is called Gone with the Wind.", "Der Film heißt Gone with the Wind."),
]  # fmt: skip


@pytest.mark.parametrize(("source", "hypothesis", "guard"), BAD)
def test_bad_hypotheses_trip_their_guard_and_no_other(source: str, hypothesis: str, guard: str) -> None:
    assert check(source, hypothesis) == guard
    assert check(source, hypothesis, config=replace(CONFIG, **{guard: False})) != guard


@pytest.mark.parametrize(("source", "hypothesis"), GOOD)
def test_good_hypotheses_pass(source: str, hypothesis: str) -> None:
    assert check(source, hypothesis) is None


def test_a_hypothesis_at_the_limit_is_refused_where_that_is_wanted() -> None:
    asked = Guards(replace(CONFIG, limit=True), "en", "de")
    assert asked.check(LONG_SOURCE, LONG_TARGET, limited=True) == "limit"
    assert asked.check(LONG_SOURCE, LONG_TARGET) is None
    assert Guards(CONFIG, "en", "de").check(LONG_SOURCE, LONG_TARGET, limited=True) is None


def test_all_of_them_can_be_switched_off() -> None:
    off = replace(CONFIG, **dict.fromkeys(NAMES, False))
    assert all(check(source, hypothesis, config=off) is None for source, hypothesis, _ in BAD)


def test_what_a_recipe_starts_with_is_what_is_tested_here() -> None:
    assert OmegaConf.to_object(compose.compose(compose.parse_request(["recipe=demo"])).guards) == CONFIG


def test_near_languages_share_sentences_and_are_taken_for_one_another() -> None:
    sentence = "Kommissionen underretter medlemsstaterne om alle foranstaltninger i henhold til denne artikel."
    assert check(sentence, sentence, "da-nb") is None  # word for word, and more probably Danish
    assert (
        check("The Commission informs the Member States of all measures under this article.", sentence, "en-nb") is None
    )
    assert check(LONG_SOURCE, LONG_SOURCE, "en-en_GB") is None


def test_a_language_that_the_model_does_not_know_is_not_judged() -> None:
    assert check(LONG_TARGET, LONG_SOURCE, "de-xx") is None
    assert check(LONG_TARGET, LONG_SOURCE, "de-fr") == "language"


def test_scripts_without_spaces() -> None:
    chinese = "委员会应将其根据本条采取的每项措施通知各成员国。"
    assert check(LONG_SOURCE, chinese, "en-zh") is None
    assert check(chinese, LONG_SOURCE, "zh-en") is None
    assert check(LONG_SOURCE, "委员会应将" + "通知各成员国" * 8, "en-zh") == "repetition"
    assert check(chinese, chinese, "zh-en") == "copy"
    # UN: Universal Declaration of Human Rights, article 1.
    human = "All human beings are born free and equal in dignity and rights."
    assert (
        check(human, "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。", "en-ja")
        is None
    )
    assert check(human, "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", "en-ko") is None


def test_counting_what_repeats() -> None:
    assert most_repeated(["a", "b", "c", "d"]) == 1
    assert most_repeated([]) == most_repeated(["a"]) == 1
    assert most_repeated(["a", "a", "b", "c", "c"]) == 3  # two doubled words
    assert most_repeated(["a", "b", "a", "b", "a", "b"]) == 3
    assert most_repeated(["-", "-", "-", "-", "-"]) == 1  # a rule, not a word
    looping = ["a", "b", "c", "d", "e"] * 4
    assert most_repeated(looping) == 4
    # Raunak et al.'s 4-gram in a long text that says more than that
    assert most_repeated([*looping, *map(str, range(60))]) == 1
    assert loops("Donau" * 6)
    assert not loops("Donaudampfschifffahrtsgesellschaft")
    assert not loops("-" * 80)


text = st.text(alphabet=st.sampled_from("ab, \u2028\u0085\x00é字.A1"), max_size=60)


@given(text, text)
def test_no_text_is_an_error_and_answers_do_not_depend_on_what_was_asked_before(source: str, hypothesis: str) -> None:
    assert GUARDS.check(source, hypothesis) == Guards(CONFIG, "en", "de").check(source, hypothesis)


GUARDS = Guards(CONFIG, "en", "de")


class Counted(str):
    """A word that counts how often words are compared and hashed."""

    operations = 0

    def __eq__(self, other: object) -> bool:
        Counted.operations += 1
        return super().__eq__(other)

    def __hash__(self) -> int:
        Counted.operations += 1
        return super().__hash__()


def operations(word: Callable[[int], str], count: int) -> int:
    """Return the number of comparisons and hashes that counting repetitions takes in a text of `count` words."""
    Counted.operations = 0
    most_repeated([Counted(word(place)) for place in range(count)])
    return Counted.operations


TEXTS: dict[str, Callable[[int], str]] = {
    "distinct words": str,
    "one word": lambda place: "a",
    "two words in turn": lambda place: "ab"[place % 2],
    "four words in turn": lambda place: "abcd"[place % 4],
    "doubled words": lambda place: str(place // 2 % 50),
}


@pytest.mark.parametrize("text", TEXTS)
def test_counting_repetitions_takes_linear_time(text: str) -> None:
    # Four times as many words: four times as many operations, and 16 times as many in quadratic time.
    assert 1000 < operations(TEXTS[text], 4000) < 5 * operations(TEXTS[text], 1000)


def test_loops_are_searched_in_the_first_2000_characters_of_a_word() -> None:
    """Without this limit, a word of a megabyte would take seconds."""
    filler = "".join(f"{number}x" for number in range(1000))
    loop = "Donau" * 5
    assert loops(filler[:1975] + loop)
    assert not loops(filler[:1976] + loop)


LANGUAGES = ["da", "de", "fi", "hu", "nl", "sv", "cs", "el", "es", "fr", "ja", "pl", "ru", "zh_Hans"]


def test_human_translations_trip_hardly_any_guard() -> None:
    """About 820 messages in each of 14 languages, in both directions. Most that trip one name formats of dates."""
    tripped, checked = Counter[str | None](), 0
    for language in LANGUAGES:
        code = language.partition("_")[0]
        into, out_of = Guards(CONFIG, "en", code), Guards(CONFIG, code, "en")
        for english, translation in messages(language):
            tripped.update((into.check(english, translation), out_of.check(translation, english)))
            checked += 2
    assert checked > 20_000
    assert checked - tripped[None] <= checked / 1000, tripped
