"""English names of languages by ISO 639-1 code, as LibreTranslate's clients show them."""

from __future__ import annotations

import difflib

from kd.models.languages import primary, standard

_LIST = (
    "af=Afrikaans am=Amharic ar=Arabic as=Assamese az=Azerbaijani be=Belarusian bg=Bulgarian bn=Bengali "
    "bo=Tibetan br=Breton bs=Bosnian ca=Catalan ceb=Cebuano cs=Czech cy=Welsh da=Danish de=German el=Greek "
    "en=English eo=Esperanto es=Spanish et=Estonian eu=Basque fa=Persian fi=Finnish fo=Faroese fr=French "
    "fy=Frisian ga=Irish gd=Scottish_Gaelic gl=Galician gu=Gujarati ha=Hausa he=Hebrew hi=Hindi hr=Croatian "
    "ht=Haitian hu=Hungarian hy=Armenian id=Indonesian ig=Igbo is=Icelandic it=Italian ja=Japanese jv=Javanese "
    "ka=Georgian kk=Kazakh km=Khmer kn=Kannada ko=Korean ku=Kurdish ky=Kyrgyz la=Latin lb=Luxembourgish lo=Lao "
    "lt=Lithuanian lv=Latvian mg=Malagasy mi=Maori mk=Macedonian ml=Malayalam mn=Mongolian mr=Marathi ms=Malay "
    "mt=Maltese my=Burmese nb=Norwegian_Bokmål ne=Nepali nl=Dutch nn=Norwegian_Nynorsk no=Norwegian oc=Occitan "
    "or=Odia pa=Punjabi pl=Polish ps=Pashto pt=Portuguese rm=Romansh ro=Romanian ru=Russian rw=Kinyarwanda "
    "sd=Sindhi se=Sami si=Sinhala sk=Slovak sl=Slovenian sn=Shona so=Somali sq=Albanian sr=Serbian st=Sotho "
    "su=Sundanese sv=Swedish sw=Swahili ta=Tamil te=Telugu tg=Tajik th=Thai tk=Turkmen tl=Tagalog tr=Turkish "
    "tt=Tatar ug=Uyghur uk=Ukrainian ur=Urdu uz=Uzbek vi=Vietnamese wo=Wolof xh=Xhosa yi=Yiddish yo=Yoruba "
    "zh=Chinese zu=Zulu "
)
_NAMES = {code: name.replace("_", " ") for code, name in (entry.split("=") for entry in _LIST.split())}


def name_of(code: str) -> str:
    """Return the name of a language, with its subtags: `Portuguese (BR)`; the code itself if it is unknown."""
    name = _NAMES.get(primary(code))
    if name is None:
        return code
    rest = standard(code).split("-")[1:]
    return f"{name} ({', '.join(part.upper() if len(part) == 2 else part.title() for part in rest)})" if rest else name


def code_of(name: str) -> str | None:
    """Return the code of a language by its English name, which may be slightly misspelt; None if no name is near."""
    codes = {each.lower(): code for code, each in _NAMES.items()}
    near = difflib.get_close_matches(name.lower().replace("_", " "), codes, n=1, cutoff=0.8)
    return codes[near[0]] if near else None
