"""Language codes and tokenisers, and language identification from the model inside the package."""

import pytest
from mtdata.iso import iso639_1, iso639_3

from kd.models.language_names import code_of
from kd.models.languages import (
    LanguageIdentifier,
    alike,
    bleu_tokenizer,
    is_code,
    language_of_script,
    meant,
    nearest,
    primary,
)

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


def test_text_without_evidence_has_no_language() -> None:
    for text in ("", " ", "\n", "a\nb"):
        language, probability = LanguageIdentifier().identify(text)
        assert isinstance(language, str)
        assert 0.0 <= probability <= 1.0


def test_codes() -> None:
    assert primary("pt-BR") == primary("pt_BR") == "pt"
    assert LanguageIdentifier().knows("en-GB")
    assert not LanguageIdentifier().knows("xx")


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        # sacreBLEU's own choice by target language: `best_tokenizer` in sacrebleu/metrics/bleu.py, version 2.6
        *(("zh", "zh"), ("ja", "ja-mecab"), ("ko", "ko-mecab"), ("de", "13a")),
        *(("zho_Hans", "zh"), ("cmn", "zh"), ("jpn_Jpan", "ja-mecab"), ("kor", "ko-mecab")),
        *(("th", "char"), ("tha_Thai", "char"), ("khm", "char"), ("", "13a")),
    ],
)
def test_languages_without_spaces_have_a_tokenizer_of_their_own(language: str, tokenizer: str) -> None:
    assert bleu_tokenizer(language) == tokenizer


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["我非常喜欢吃新鲜的苹果。", "Windows 11 很好。"], "zh"),
        (["私は新鮮なリンゴを食べるのがとても好きです。"], "ja"),
        (["저는 신선한 사과를 아주 좋아합니다."], "ko"),
        (["ฉันชอบกินแอปเปิ้ลสดมาก"], "th"),
        (["Das Zeichen 我 steht hier."], None),
        (["12", "..."], None),
    ],
)
def test_the_script_of_references_tells_the_language(texts: list[str], language: str | None) -> None:
    assert language_of_script(texts) == language


def test_a_language_is_found_among_a_models_own_names() -> None:
    assert alike("de", ["en_XX", "de_DE"]) == "de_DE"
    assert alike("de", ["deu_Latn", "eng_Latn"]) == "deu_Latn"
    assert alike("zho_Hant", ["zho_Hans", "zho_Hant"]) == "zho_Hant"
    assert alike("zh", ["zho_Hans", "zho_Hant"]) is None  # two of them
    assert alike("fr", ["en_XX", "de_DE"]) is None


@pytest.mark.parametrize("code", ["de", "deu", "ger", "deu_Latn", "de_DE", "de-AT"])
@pytest.mark.parametrize("own", ["__de__", "deu_Latn", "de_DE"])
def test_every_code_of_a_language_finds_the_name_of_each_kind_of_model(code: str, own: str) -> None:
    known = {"__de__": ["de", "en"], "deu_Latn": ["eng_Latn", "deu_Latn"], "de_DE": ["de_DE", "en_XX"]}[own]
    assert alike(code, known) == own.strip("_")


def test_the_nearest_codes_are_of_the_same_language_then_of_similar_spelling() -> None:
    nllb = ["deu_Latn", "dyu_Latn", "eng_Latn", "nno_Latn", "nob_Latn", "zho_Hans", "zho_Hant"]
    assert nearest("zh", nllb) == nearest("zh-CN", nllb) == ["zho_Hans", "zho_Hant"]
    assert nearest("no", nllb) == ["nno_Latn", "nob_Latn"]
    assert nearest("nb", ["en", "no"]) == ["no"]
    assert nearest("deo", nllb)[0] == "deu_Latn"
    assert nearest("xx", nllb) == []


def test_every_code_of_iso_639_is_a_code() -> None:
    # mtdata's copy of the registration authorities' tables
    assert [code for code in (*iso639_1.ISO693_1_to_3, *iso639_3.CODES) if not is_code(code)] == []


@pytest.mark.parametrize(
    "code",
    [
        # RFC 5646 (appendix A); FLORES-200, mBART, gettext; private use (ISO 639-2: qaa to qtz)
        *("zh-Hant", "zh-cmn-Hans-CN", "sl-rozaj", "de-CH-1901", "es-419", "de-CH-x-phonebk", "x-whatever", "qaa-Qaaa"),
        *("zho_Hans", "en_XX", "EN", "en_us", "sr@latin", "qtz", "sh", "grk", "xx"),
    ],
)
def test_codes_with_script_region_or_for_private_use_are_codes(code: str) -> None:
    assert is_code(code)


@pytest.mark.parametrize("text", ["english", "ww", "jp", "xxx", "e", "en us", "en-", "", "e\u0144", "x"])
def test_other_texts_are_no_codes(text: str) -> None:
    assert not is_code(text)


def test_the_code_is_found_for_a_name_and_for_a_country() -> None:
    assert [code_of(name) for name in ("english", "German", "Scottish_Gaelic", "Portugese")] == ["en", "de", "gd", "pt"]
    assert code_of("ww") is None
    assert [meant(code) for code in ("jp", "CZ", "en")] == ["ja", "cs", None]
