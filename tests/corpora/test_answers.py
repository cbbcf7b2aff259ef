"""Answers of language models: translations are unwrapped and stay as they are, the rest is recognised.

The answers are of the kinds that instruction-tuned models give to translation prompts.
"""

from __future__ import annotations

import pytest

from kd.corpora.answers import clean

SOURCE = "The cat sleeps on the warm roof."
GERMAN = "Die Katze schläft auf dem warmen Dach."


@pytest.mark.parametrize(
    ("answer", "unwrapped"),
    [
        (GERMAN, ()),
        (f"  {GERMAN}\n", ()),
        (f'"{GERMAN}"', ("quotes",)),
        (f"„{GERMAN}“", ("quotes",)),
        (f"«{GERMAN}»", ("quotes",)),
        (f"**{GERMAN}**", ("Markdown",)),
        (f"```\n{GERMAN}\n```", ("fence",)),
        (f"```text\n{GERMAN}\n```", ("fence",)),
        (f"Here is the translation:\n\n{GERMAN}", ("lead-in",)),
        (f"Sure! Here's the German translation of the text: {GERMAN}", ("lead-in",)),
        (f"The translation is: {GERMAN}", ("lead-in",)),
        (f"German: {GERMAN}", ("lead-in",)),
        (f"Translation: {GERMAN}", ("lead-in",)),
        (f'Here is the translation:\n"{GERMAN}"', ("lead-in", "quotes")),
        (f"{SOURCE}\n{GERMAN}", ("source",)),
        (f"<think>\nThe user wants German.\n</think>\n\n{GERMAN}", ("reasoning",)),
    ],
)
def test_what_surrounds_a_translation_is_removed_and_named(answer: str, unwrapped: tuple[str, ...]) -> None:
    assert clean(SOURCE, answer, "stop", "de", "German") == (GERMAN, unwrapped, None)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ('"Go away!"', '"Geh weg!"'),
        ('He said "yes" and "no".', '"Ja" sagte er und "nein"'),
        ("**Note**", "**Hinweis**"),
        ("Here is the list:", "Hier ist die Liste:"),
        ("Translation: see page 4", "Übersetzung: siehe Seite 4"),
        ("I'm sorry, I can't help you.", "Es tut mir leid, ich kann Ihnen nicht helfen."),
        ("As an AI language model, I cannot do this.", "Als KI-Sprachmodell kann ich das nicht tun."),
        ("Use `ls` here", "Verwenden Sie hier `ls`"),
        ("`ls`", "`ls`"),
    ],
)
def test_marks_that_the_source_has_stay(source: str, answer: str) -> None:
    assert clean(source, answer, "stop", "de", "German") == (answer, (), None)


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("Es tut mir leid, ich kann Ihnen nicht helfen.", "I'm sorry, I can't help you."),
        ("Entschuldigung, das geht leider nicht.", "Sorry, unfortunately that is not possible."),
        ("Melden Sie sich, falls Sie Fragen haben.", "Let me know if you have any questions."),
        ("Hier ist die Übersetzung des Briefes.", "Here is the translation of the letter."),
        ("Ich kann diesen Satz nicht übersetzen.", "I cannot translate this sentence."),
    ],
)
def test_apologies_that_are_translations_are_used(source: str, answer: str) -> None:
    assert clean(source, answer, "stop", "en", "English") == (answer, (), None)


@pytest.mark.parametrize(
    ("answer", "ending", "problem"),
    [
        ("", "stop", "empty"),
        (None, "stop", "empty"),
        ('""', "stop", None),  # two quotes around nothing are the text
        ("I'm sorry, but I can't assist with that request.", "stop", "refusal"),
        ("I cannot translate this text.", "stop", "refusal"),
        ("As an AI language model, I do not translate such texts.", "stop", "refusal"),
        ("Als KI-Sprachmodell kann ich diesen Text nicht übertragen.", "stop", "refusal"),
        (GERMAN, "content_filter", "refusal"),
        (f"{GERMAN} I hope this helps!", "stop", "chatter"),
        (f'"{SOURCE}" translates to "{GERMAN}"', "stop", "chatter"),
        (f"{GERMAN}\n\nNote: the article is definite.", "stop", "lines"),
        (f"{GERMAN}\nDie Katze schläft.", "stop", "lines"),
        (f"{SOURCE} {GERMAN}", "stop", "source"),
        ("<think>\nThe user wants", "stop", "reasoning"),
        (GERMAN, "length", "limit"),
    ],
)
def test_answers_that_are_no_translation_are_left_out(answer: str | None, ending: str, problem: str | None) -> None:
    found = clean(SOURCE, answer, ending, "de", "German")
    assert found.problem == problem
    assert bool(found.text) == (problem is None)
