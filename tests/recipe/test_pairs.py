"""Language codes of a recipe's pairs are checked when the recipe is planned."""

from __future__ import annotations

import pytest

from kd.base.errors import UserError
from kd.recipe.pairs import languages_of_pairs


def pair(source: str | None = None, target: str | None = None) -> dict[str, str | None]:
    return {"source": source, "target": target}


def test_the_codes_of_a_pair_come_from_its_settings_or_its_name() -> None:
    given = {"en-zh_Hans": pair(), "any name-at all": pair("sr-Cyrl", "qaa"), "pt-en": pair(source="pt-BR")}
    assert languages_of_pairs(given) == {
        "en-zh_Hans": pair("en", "zh_Hans"),
        "any name-at all": pair("sr-Cyrl", "qaa"),
        "pt-en": pair("pt-BR", "en"),
    }


def test_the_placeholders_of_the_recipe_files_are_allowed_in_its_pair_alone() -> None:
    assert languages_of_pairs({"source-target": pair(target="de")}) == {"source-target": pair("source", "de")}
    with pytest.raises(UserError, match="target is not a language code"):
        languages_of_pairs({"source-target": pair(source="target")})
    with pytest.raises(UserError, match="source is not a language code"):
        languages_of_pairs({"source-de": pair()})


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"en-de": pair("english")}, "english is not a language code. Did you mean pairs.en-de.source=en?"),
        (
            {"english-german": pair()},
            "english and german are not language codes. "
            "Did you mean pairs.english-german.source=en pairs.english-german.target=de?",
        ),
        (
            {"ww-de": pair()},
            "ww is not a language code. Set pairs.ww-de.source to an ISO 639 code, such as en, pt-BR or zho_Hans.",
        ),
        ({"-de": pair()}, "The pair -de does not name its languages. Name it source-target, such as en-de."),
    ],
)
def test_a_text_that_is_no_code_is_refused_with_the_code_that_was_meant(pairs: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        languages_of_pairs(pairs)
    assert f"{caught.value.problem} {caught.value.hint}" == message
