"""Where sentences end in the languages of the recipes; `|` marks each end.

The cases are ordinals, articles and abbreviations as in EU legislation and in issues of syntok (28), CoreNLP (380) and
yasbd (301). Where each sentence ends was decided by reading them.
"""

from __future__ import annotations

import pytest

from kd.corpora.segments import segments
from kd.corpora.sentence_ends import sentences

TABLE = [
    ("hu", "A 2003. évi I. törvény 5. §-a szerint a 3. pontot kell alkalmazni. |Ez új."),
    ("hu", "A 12. cikk (3) bek. alapján. |A 2020. január 1. napjától hatályos."),
    ("hu", "Kb. 5 db van. |A XIX. század vége. |Dr. Kovács jött. |Pl. a ház."),
    ("hu", "Az 1. ábra mutatja. |A 3. Irodalmi Fórum volt. |Az ár 300. |Ez sok."),
    ("fr", "Voir l'art. 5, par. 2. |M. Dupont a parlé. |C'est tout."),
    ("fr", "Le no. 3 est ici. |Cf. p. 12. |Mme. Curie vint à St. Denis. |L'al. 3 vaut à 10 h. du matin."),
    ("fr", "Il est né av. J.-C. |Puis il mourut."),
    ("de", "Am 1. FC Köln vorbei. |Der 17. Versuch war gut. |Am 3. Oktober kam er. |Nach Abs. 2 Nr. 4 gilt das."),
    ("de", "Vgl. Art. 5 Abs. 1. |Das gilt z. B. für Hunde. |Prof. Dr. Müller kam. |Das kostet ca. 5 Euro."),
    ("de", "Gem. § 5. |Er kam 2003. |Danach ging er zur Fa. Meier. |Ludwig XIV. regierte im 2. Weltkrieg nicht."),
    (
        "fi",
        "Asetuksen 5 artiklan 2. kohta. |Hän tuli 3. päivänä. |Esim. koira. |Ks. s. 12. |Klo 12. |Sitten hän lähti.",
    ),
    ("fi", "Tämä on 3. Luku. |Se on pitkä. |Ns. kissa."),
    ("en", "See Reg. No. 1234 and Art. 5. |It starts at 9 a.m. Monday. |Mr. Smith came."),
    ("en", "See Fig. 3 and pp. 12-14. |Vol. 2 is out. |Approx. 5 km. |Dr. No is a film. |It was 1998. |Then he came."),
    ("da", "Den 3. maj kom han. |Den 2. Verdenskrig. |Jf. art. 5, stk. 2. |Bl.a. dette. |Kl. 12. |Så gik han."),
    ("nl", "Zie art. 5, lid 2. |Dhr. Jansen kwam. |Nr. 5 is goed. |D.w.z. dit. |Mevr. de Vries. |Op 3 mei kwam hij."),
    ("sv", "Den 3. maj kom han. |Se art. 5. |T.ex. en hund. |Kl. 12. |Sedan gick han. |Jfr. s. 12. |Kap. 3 är kort."),
]


@pytest.mark.parametrize(("language", "marked"), TABLE)
def test_no_sentence_ends_behind_an_ordinal_or_an_abbreviation(language: str, marked: str) -> None:
    parts = marked.split("|")
    assert [part.strip() for part in sentences("".join(parts), language) if part.strip()] == [
        part.strip() for part in parts
    ]


@pytest.mark.parametrize(("language", "marked"), TABLE)
def test_long_lines_are_cut_at_these_ends_only(language: str, marked: str) -> None:
    parts = [part.strip() for part in marked.split("|")]
    longest = max(map(len, parts))
    cut = segments("".join(marked.split("|")), language, lambda text: len(text) <= longest)
    prefixes = {"".join(parts[: place + 1]).replace(" ", "") for place in range(len(parts))}
    so_far = ""
    for segment in cut:
        so_far += segment.text.replace(" ", "")
        assert so_far in prefixes


def test_text_of_any_kind_is_kept_whole() -> None:
    for text in ("", " ", "...", "1. 2. 3.", "a.b.c", "x\u2028y. Z", "No.", "\n. A", "5. "):
        assert "".join(sentences(text, "de")) == text
