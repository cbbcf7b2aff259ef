"""Message catalogues of two languages become the pairs that stand at the same place, whatever holds them."""

from __future__ import annotations

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polib
import pytest

from kd.base.errors import UserError
from kd.corpora.catalogue import read_catalogues, without_accelerators

Pack = Callable[[dict[str, str | bytes]], Path]


@pytest.fixture(params=["folder", "zip", "wheel"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Pack:
    """Put files by name into a folder, a zip or a wheel."""

    def in_folder(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "root"

    def in_zip(files: dict[str, str | bytes]) -> Path:
        path = tmp_path / ("root.zip" if request.param == "zip" else "root-1-py3-none-any.whl")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in reversed(files.items()):  # the order in the archive does not matter
                archive.writestr(name, content)
        return path

    return in_folder if request.param == "folder" else in_zip


def catalogue(**messages: Any) -> str:
    return json.dumps(messages)


def test_json_strings_pair_by_place_and_key_path(pack: Pack) -> None:
    english = catalogue(z={"title": "Hello", "off": "Off"}, a=["One", "Two"], only="Only here", number=1, flag=True)
    german = catalogue(a=["Eins", "Zwei"], z={"off": "Aus", "title": "Hallo"}, flag=None, number="1")
    root = pack(
        {
            "b/translations/en.json": catalogue(x="B", nothing=None),
            "b/translations/de.json": catalogue(x="Be"),
            "a/translations/en.json": english,
            "a/translations/de.json": german,
            "c/translations/en.json": catalogue(x="no German"),
            "a/translations/deep/en.json": catalogue(x="a star stays in its folder"),
            "a/translations/deep/de.json": catalogue(x="ein Stern bleibt in seinem Ordner"),
        }
    )
    counts: Counter[str] = Counter()
    pairs = list(read_catalogues(root, "*/translations/{language}.json", "en", "de", counts))
    # by file name, then in the order of the source's document
    assert pairs == [("Hello", "Hallo"), ("Off", "Aus"), ("One", "Eins"), ("Two", "Zwei"), ("B", "Be")]
    assert counts["not a string"] == 3
    assert counts["not translated"] == 1
    assert counts["no catalogue in the target language"] == 1
    deep = list(read_catalogues(root, "**/{language}.json", "en", "de"))
    assert len(deep) == 6


def test_line_breaks_become_spaces_and_the_rest_of_the_text_stays(pack: Pack) -> None:
    root = pack(
        {
            "en.json": catalogue(a="two\n\n lines\n", b=" kept \u2028 \r ", c="half \ud800", d="\ufeffx"),
            "de.json": "\ufeff" + catalogue(a="zwei\r\nZeilen", b="\x85", c="halb", d="y"),
        }
    )
    counts: Counter[str] = Counter()
    pairs = list(read_catalogues(root, "{language}.json", "en", "de", counts))
    assert pairs == [("two lines", "zwei Zeilen"), (" kept \u2028 \r ", "\x85"), ("\ufeffx", "y")]
    assert counts["line breaks made spaces"] == 2
    assert counts["no valid text"] == 1


def test_codes_match_with_either_separator(pack: Pack) -> None:
    root = pack({"pt_BR.json": catalogue(a="um"), "en.json": catalogue(a="one"), "pt.json": catalogue(a="hum")})
    assert list(read_catalogues(root, "{language}.json", "pt-BR", "en")) == [("um", "one")]


def gettext_file(*, mo: bool, translate: Callable[[str], str]) -> bytes:
    """A catalogue with everything that gettext knows; polib writes it."""
    file = polib.POFile()
    file.metadata = {
        "Content-Type": "text/plain; charset=UTF-8",
        "Plural-Forms": "nplurals=3; plural=(n==1 ? 0 : n<5 ? 1 : 2);",
    }
    entry = polib.POEntry
    file.append(entry(msgid="Open", msgctxt="verb", msgstr=translate("Open it")))
    file.append(entry(msgid="Open", msgctxt="state", msgstr=translate("Being open")))
    file.append(entry(msgid="a \u2028 b \x85 c", msgstr=translate("d \u2028 e")))
    file.append(entry(msgid="Ends\n", msgstr=translate("Over\n")))
    file.append(entry(msgid="guess", msgstr="unsure", flags=["fuzzy"]))
    file.append(entry(msgid="old", msgstr="gone", obsolete=True))
    file.append(entry(msgid="untranslated", msgstr=""))
    forms = {0: translate("one file"), 1: translate("few files"), 2: translate("files")}
    file.append(entry(msgid="%d file", msgid_plural="%d files", msgstr_plural=forms))
    return file.to_binary() if mo else str(file).encode()


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_gettext_source_is_the_message_id(pack: Pack, suffix: str) -> None:
    root = pack({f"locale/de/x.{suffix}": gettext_file(mo=suffix == "mo", translate=str.upper)})
    counts: Counter[str] = Counter()
    pairs = list(read_catalogues(root, f"locale/{{language}}/*.{suffix}", "en", "de", counts))
    assert sorted(pairs) == [
        ("%d file", "ONE FILE"),
        ("%d files", "FILES"),
        ("Ends", "OVER"),
        ("Open", "BEING OPEN"),
        ("Open", "OPEN IT"),
        ("a \u2028 b \x85 c", "D \u2028 E"),
    ]
    if suffix == "po":
        assert (counts["fuzzy"], counts["obsolete"], counts["not translated"]) == (1, 1, 1)
    backwards = read_catalogues(root, f"locale/{{language}}/*.{suffix}", "de", "en-GB")
    assert sorted(backwards) == sorted((target, source) for source, target in pairs)


def test_gettext_source_is_its_own_catalogue_where_there_is_one(pack: Pack) -> None:
    root = pack(
        {
            "fr.po": gettext_file(mo=False, translate=str.title),
            "de.po": gettext_file(mo=False, translate=str.upper),
        }
    )
    pairs = list(read_catalogues(root, "{language}.po", "fr", "de"))
    assert pairs[:2] == [("Open It", "OPEN IT"), ("Being Open", "BEING OPEN")]
    assert ("One File", "ONE FILE") in pairs
    assert ("Files", "FILES") in pairs


@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_what_the_catalogue_of_the_ids_language_leaves_empty_is_the_id(pack: Pack, suffix: str) -> None:
    file = polib.POFile()
    file.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    file.append(polib.POEntry(msgid="Open", msgctxt="verb", msgstr="Open it!"))
    file.append(polib.POEntry(msgid="guess", msgstr="wrong", flags=["fuzzy"]))
    file.append(polib.POEntry(msgid="untranslated", msgstr=""))
    file.append(polib.POEntry(msgid="%d file", msgid_plural="%d files", msgstr_plural={0: "", 1: ""}))
    own = file.to_binary() if suffix == "mo" else str(file).encode()
    root = pack({f"en.{suffix}": own, f"de.{suffix}": gettext_file(mo=suffix == "mo", translate=str.upper)})
    counts: Counter[str] = Counter()
    pairs = list(read_catalogues(root, f"{{language}}.{suffix}", "en", "de", counts))
    assert sorted(pairs) == [
        ("%d file", "ONE FILE"),
        ("%d files", "FILES"),
        ("Ends", "OVER"),
        ("Open", "BEING OPEN"),
        ("Open it!", "OPEN IT"),
        ("a \u2028 b \x85 c", "D \u2028 E"),
    ]
    if suffix == "po":
        assert (counts["fuzzy"], counts["obsolete"], counts["not translated"]) == (1, 1, 1)  # in the German one
    backwards = read_catalogues(root, f"{{language}}.{suffix}", "de", "en")
    assert sorted(backwards) == sorted((target, source) for source, target in pairs)


def test_one_plural_form_translates_the_plural(pack: Pack) -> None:
    file = polib.POFile()
    file.metadata = {"Content-Type": "text/plain; charset=UTF-8"}
    file.append(polib.POEntry(msgid="%d file", msgid_plural="%d files", msgstr_plural={0: "%d tiedostoa"}))
    root = pack({"fi.po": str(file).encode()})
    assert list(read_catalogues(root, "{language}.po", "en", "fi")) == [("%d files", "%d tiedostoa")]


@pytest.mark.parametrize(
    ("files", "glob", "sentence"),
    [
        ({"en.json": "{}"}, "{language}.json", r"No catalogue of the language de matches \{language\}\.json in .*root"),
        ({"en.json": "{}"}, "en.json", "has no .language."),
        ({"en.txt": "x", "de.txt": "x"}, "{language}.txt", "Catalogues end in .json, .po or .mo"),
        ({"en.json": "{}", "de.json": '{"a":\n  "b"\n  "c"}'}, "{language}.json", r"de\.json in .*root.*, line 3"),
        (
            {"en.json": "{}", "de.json": b'{"a":\n"\xff"}'},
            "{language}.json",
            r"de\.json in .*, line 2: not valid UTF-8",
        ),
        ({"en.json": "[" * 100_000, "de.json": "{}"}, "{language}.json", "nested too deeply"),
        ({"de.po": 'msgid "a"\nmsgstr "b"x"\n'}, "{language}.po", r"de\.po in .* is not a gettext catalogue: .*line 2"),
        ({"de.mo": b"\xde\x12\x04\x95\0"}, "{language}.mo", r"de\.mo in .* is not a gettext catalogue"),
        ({"de.mo": b"nothing of the kind"}, "{language}.mo", r"de\.mo in .* is not a gettext catalogue"),
        ({"de.po": "", "sv.po": ""}, "{language}.po", None),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    pack: Pack, files: dict[str, str | bytes], glob: str, sentence: str | None
) -> None:
    root = pack(files)
    if sentence is None:
        with pytest.raises(UserError, match="No catalogue of the language ja"):  # message ids are English
            list(read_catalogues(root, glob, "ja", "de"))
    else:
        with pytest.raises(UserError, match=sentence):
            list(read_catalogues(root, glob, "en", "de"))


def test_a_missing_or_broken_root_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone does not exist\."):
        list(read_catalogues(tmp_path / "gone", "{language}.json", "en", "de"))
    (tmp_path / "broken.whl").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UserError, match=r"broken\.whl is not a readable zip or wheel"):
        list(read_catalogues(tmp_path / "broken.whl", "{language}.json", "en", "de"))


HEADER = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Plural-Forms: {}\\n"\n\n'
# nplurals and rule from Unicode's CLDR and gettext's manual, the forms that stand for 1 and for most numbers
RULES = {
    "lv": ("nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n != 0 ? 1 : 2);", 0, 1),
    "sl": ("nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);", 1, 0),
    "ar": ("nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5;", 1, 4),
    "pl": ("nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);", 0, 2),
    "fr": ("nplurals=2; plural=(n > 1);", 0, 1),
    "de": ("nplurals=2; plural=(n != 1);", 0, 1),
}


@pytest.mark.parametrize("suffix", ["po", "mo"])
@pytest.mark.parametrize("language", RULES)
def test_plural_forms_follow_the_header(tmp_path: Path, language: str, suffix: str) -> None:
    rule, singular, plural = RULES[language]
    forms = "".join(f'msgstr[{number}] "form {number}"\n' for number in range(int(rule[9])))
    path = tmp_path / f"{language}.po"
    path.write_text(HEADER.format(rule) + f'msgid "%d file"\nmsgid_plural "%d files"\n{forms}', "utf-8")
    if suffix == "mo":
        polib.pofile(str(path)).save_as_mofile(str(tmp_path / f"{language}.mo"))
    found = list(read_catalogues(tmp_path, "{language}." + suffix, "en", language))
    assert found == [("%d file", f"form {singular}"), ("%d files", f"form {plural}")]


@pytest.mark.parametrize(
    "rule", ["", "nplurals=3; plural=import os", "nplurals=3; plural=n/0", "nplurals=3; plural=" + "(" * 999]
)
def test_three_forms_without_a_rule_are_left_out(tmp_path: Path, rule: str) -> None:
    forms = "".join(f'msgstr[{number}] "form {number}"\n' for number in range(3))
    text = HEADER.format(rule) + f'msgid "a"\nmsgid_plural "as"\n{forms}\nmsgid "b"\nmsgstr "c"\n'
    (tmp_path / "xx.po").write_text(text, "utf-8")
    counts: Counter[str] = Counter()
    assert list(read_catalogues(tmp_path, "{language}.po", "en", "xx", counts)) == [("b", "c")]
    assert counts["no rule for plural forms"] == 1


def test_escapes_of_gettext_are_read_as_msgfmt_reads_them(tmp_path: Path) -> None:
    entries = {
        r"octal \303\251": "octal é", r"hex \xc3\xa9.": "hex é.", r"bell \a": "bell \a", r"back \\303": r"back \303",
        r"quote \042 \"": 'quote " "', r"line\nbreak": "line break", r"tab\t": "tab\t",
    }  # fmt: skip
    text = "".join(f'msgid "m{number}"\nmsgstr "{escaped}"\n\n' for number, escaped in enumerate(entries))
    (tmp_path / "fr.po").write_text(HEADER.format("") + text, "utf-8")
    assert [target for _, target in read_catalogues(tmp_path, "{language}.po", "en", "fr")] == list(entries.values())


def test_a_message_of_many_lines_is_read_whole_and_errors_keep_their_line(tmp_path: Path) -> None:
    lines = "\n".join(f'"line {number}, "' for number in range(100_000))
    text = f'{HEADER.format("")}msgid "long"\nmsgstr ""\n{lines}\n'
    (tmp_path / "fr.po").write_text(text, "utf-8")
    ((_, target),) = read_catalogues(tmp_path, "{language}.po", "en", "fr")
    assert target == "".join(f"line {number}, " for number in range(100_000))
    (tmp_path / "fr.po").write_text(text + "nonsense\n", "utf-8")
    with pytest.raises(UserError, match=rf"line {text.count(chr(10)) + 1}"):
        list(read_catalogues(tmp_path, "{language}.po", "en", "fr"))


def test_the_message_names_the_language_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "deutsch.po").write_text(HEADER.format(""), "utf-8")
    with pytest.raises(UserError, match=r"No catalogue of the language de matches"):
        list(read_catalogues(tmp_path, "{language}.po", "en", "de"))
    (tmp_path / "sr@latin.po").write_text(HEADER.format("") + 'msgid "a"\nmsgstr "b"\n', "utf-8")
    assert list(read_catalogues(tmp_path, "{language}.po", "en", "sr-Latn")) == [("a", "b")]


@pytest.mark.parametrize(
    ("mark", "pair", "expected"),
    [
        ("_", ("_Edit", "B_earbeiten"), ("Edit", "Bearbeiten")),
        ("_", ("_Edit", "編集(_E)"), ("Edit", "編集")),
        ("_", ("file_name", "Name"), ("file_name", "Name")),
        ("_", ("a_b_c", "_d"), ("a_b_c", "_d")),
        ("&", ("&File", "&Datei"), ("File", "Datei")),
        ("&", ("Save && &Quit", "Sichern && &Beenden"), ("Save && Quit", "Sichern && Beenden")),
        ("&", ("&amp; more", "&amp; mehr"), ("&amp; more", "&amp; mehr")),
        ("~", ("~Open...", "Ö~ffnen..."), ("Open...", "Öffnen...")),
    ],
)
def test_marks_of_menu_letters_are_removed_where_both_sides_have_one(
    mark: str, pair: tuple[str, str], expected: tuple[str, str]
) -> None:
    assert without_accelerators(pair, mark) == expected


def test_catalogues_have_a_bounded_size_and_numbers_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for language in ("en", "de"):
        (tmp_path / f"{language}.json").write_text(f'{{"n": {"9" * 5000}, "f": 1e999, "t": "{language}"}}', "utf-8")
    counts: Counter[str] = Counter()
    assert list(read_catalogues(tmp_path, "{language}.json", "en", "de", counts)) == [("en", "de")]
    assert counts["not a string"] == 2
    monkeypatch.setattr("kd.corpora.catalogue_files.LARGEST", 1000)
    with pytest.raises(UserError, match=r"en\.json in .* has more than"):
        list(read_catalogues(tmp_path, "{language}.json", "en", "de"))


def test_a_mo_file_whose_strings_overlap_is_refused(tmp_path: Path) -> None:
    number, text = 2000, b"x" * 60_000
    table = b"".join(struct.pack("<2I", len(text), 28 + 16 * number) for _ in range(number))
    header = struct.pack("<7I", 0x950412DE, 0, number, 28, 28 + 8 * number, 0, 0)
    (tmp_path / "de.mo").write_bytes(header + table * 2 + text)
    with pytest.raises(UserError, match="its strings overlap"):
        list(read_catalogues(tmp_path, "{language}.mo", "en", "de"))
