"""Language identification from the model inside the package."""

from kd.models.languages import LanguageIdentifier, primary

# Article 1 of the Universal Declaration of Human Rights in the languages of the first recipes, and English.
ARTICLE_1 = {
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "en": "All human beings are born free and equal in dignity and rights.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter.",
}


def test_the_languages_of_the_first_recipes_are_told_apart() -> None:
    identifier = LanguageIdentifier()
    for language, text in ARTICLE_1.items():
        found, probability = identifier.identify(text)
        assert found == language
        assert 0.5 < probability <= 1.0
        assert identifier.probability(text, f"{language}-XX") > 0.5
        assert all(identifier.probability(text, other) < 0.5 for other in ARTICLE_1 if other != language)


def test_text_that_says_nothing_is_no_language_and_no_error() -> None:
    for text in ("", " ", "\n", "a\nb"):
        language, probability = LanguageIdentifier().identify(text)
        assert isinstance(language, str)
        assert 0.0 <= probability <= 1.0


def test_codes() -> None:
    assert primary("pt-BR") == primary("pt_BR") == "pt"
    assert LanguageIdentifier().knows("en-GB")
    assert not LanguageIdentifier().knows("xx")
