"""TMX: any pair out of many languages, inline tags gone and text intact, flat memory, nothing read from elsewhere."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from kd.base.errors import UserError
from kd.corpora.archives import members
from kd.corpora.lines import BrokenText
from kd.corpora.tmx import matches, read_tmx
from tests.corpora.samples import write_tmx

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
START = '<tmx version="1.4"><header creationtool="x" srclang="*all*"/><body>\n'
END = "</body></tmx>\n"


def unit(source: str, target: str, attributes: str = "", inside: str = "") -> str:
    """A translation unit on one line."""
    tuvs = f'<tuv xml:lang="en-GB"><seg>{source}</seg></tuv><tuv xml:lang="DE"><seg>{target}</seg></tuv>'
    return f"<tu {attributes}>{inside}{tuvs}</tu>\n"


def document(*units: str) -> str:
    """A whole file."""
    return HEAD + START + "".join(units) + END


@pytest.fixture
def write(tmp_path: Path):
    """Write a file and return its path."""

    def of(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "a.tmx"
        path.write_bytes(text.encode(encoding))
        return path

    return of


def read(path: Path, source: str = "en", target: str = "de", **options: object) -> list[tuple[str, ...]]:
    """All rows."""
    return list(read_tmx(path, source, target, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("language", "tag", "fits"),
    [
        # RFC 4647, 3.3.1: "de-de" matches de-DE-1996 but not de-Deva nor de-Latn-DE
        ("de-de", "de-DE-1996", True),
        ("de-de", "de-Deva", False),
        ("de-de", "de-Latn-DE", False),
        ("en", "EN", True),
        ("en", "en_GB", True),
        ("en", "eng", True),
        ("pt-BR", "pt", False),
        ("zh-Hant", "zh_hant_TW", True),
    ],
)
def test_languages_are_matched_as_basic_ranges(language: str, tag: str, fits: bool) -> None:
    assert matches(language, tag) is fits


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ("plain &amp; simple &#233;", "plain & simple é"),
        ('Click <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept>!', "Click here!"),
        ('half<bpt i="1">{\\b </bpt>bold<ept i="1">}</ept>word', "halfboldword"),
        ("a <hi type='b'>very <hi>big</hi> <ph>{code}</ph>word</hi> b", "a very big word b"),
        ('see<ph type="fnote">\\footnote{<sub>of its own</sub>}</ph> there', "see there"),
        ("one<ph type='lb'/>two", "one two"),
        ("one<ph>&lt;br/&gt;</ph>two", "one two"),
        ("one <ph>&lt;br/&gt;</ph>two", "one two"),
        ("one<ph>&lt;img/&gt;</ph>two", "onetwo"),
        ("<ph>&lt;br/&gt;</ph>two<ph type='lb'/>", "two"),
        ('<it pos="begin">&lt;i&gt;</it>left open', "left open"),
        ("<ut>{\\rtf}</ut>old", "old"),
        ('<g id="1">XLIFF</g> <x id="2"/>in the wild', "XLIFF in the wild"),
        ("with <!-- a comment --> and <?an instruction?>", "with  and "),
        ("<![CDATA[5 < 6 & so on]]>", "5 < 6 & so on"),
        ("", ""),
        (" kept as \t it is ", " kept as \t it is "),
        ("\n      indented\n      twice\n    ", "indented twice"),
        (
            "carriage return &#13;, next line \x85, separator \u2028",
            "carriage return \r, next line \x85, separator \u2028",
        ),
    ],
)
def test_inline_elements_go_and_text_stays(write, segment: str, text: str) -> None:
    assert read(write(document(unit(segment, "x")))) == [(text, "x")]


def test_old_lang_namespaces_and_further_languages(write) -> None:
    other = (
        '<tuv xml:lang="fr"><seg>un</seg></tuv><tuv lang="EN"><seg>one</seg></tuv><tuv lang="de"><seg>eins</seg></tuv>'
    )
    text = document(f"<tu>{other}</tu>").replace("<tmx ", '<tmx xmlns="http://www.lisa.org/tmx14" ')
    path = write(text)
    assert read(path) == [("one", "eins")]
    assert read(path, "de", "fr") == [("eins", "un")]


def test_of_several_variants_the_exact_one_else_the_first(write) -> None:
    tuvs = "".join(
        f'<tuv xml:lang="{tag}"><seg>{tag}</seg></tuv>' for tag in ("en-US", "de-AT", "en-GB", "de", "en-IE")
    )
    counts: Counter[str] = Counter()
    path = write(document(f"<tu>{tuvs}</tu>"))
    assert read(path, counts=counts) == [("en-US", "de")]
    assert read(path, "en-gb", "de_at") == [("en-GB", "de-AT")]
    assert counts == {"several variants of a language": 2}


def test_what_is_left_out_is_counted(write) -> None:
    english = '<tu><tuv xml:lang="en"><seg>alone</seg></tuv></tu>'
    french = '<tu><tuv xml:lang="fr"><seg>seul</seg></tuv></tu>'
    without = '<tu><tuv xml:lang="en"/><tuv xml:lang="de"><seg>x</seg></tuv></tu>'
    counts: Counter[str] = Counter()
    rows = read(write(document(english, unit("one", "two\nlines"), french, without, english)), counts=counts)
    assert rows == [("one", "two lines")]
    assert counts == {"no de": 2, "no en and no de": 1, "no segment": 1, "line breaks made spaces": 1}


def test_a_pair_that_is_not_there_is_refused_with_what_is(write) -> None:
    with pytest.raises(UserError, match=r"a\.tmx has both en and fi: there are DE, en-GB"):
        read(write(document(unit("one", "eins"))), "en", "fi")


def test_provenance_is_kept_where_asked_for(write) -> None:
    tuvs = (
        '<tuv xml:lang="en" creationdate="1" creationid="EN" changeid="en"><prop type="a">en</prop><seg>x</seg></tuv>'
        '<tuv xml:lang="de" creationdate="2" creationid="DE"><prop type="b">de</prop><seg>y</seg></tuv>'
    )
    props = '<prop type="domain">law</prop><prop type="domain">fish\n  ing</prop>'
    path = write(document(f'<tu tuid="7" creationdate="3">{props}{tuvs}</tu>', unit("x", "y")))
    keep = ["tuid", "creationdate", "creationid", "changeid", "prop:domain", "prop:a", "prop:b", "prop:c"]
    assert read(path, keep=keep) == [
        ("x", "y", "7", "3", "DE", "en", "law; fish ing", "en", "de", ""),
        ("x", "y", *[""] * 8),
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_other_encodings(write, encoding: str) -> None:
    declared = {"utf-16": "UTF-16", "utf-8-sig": "UTF-8", "latin-1": "ISO-8859-1"}[encoding]
    text = document(unit("où", "größer")).replace("UTF-8", declared)
    assert read(write(text, encoding)) == [("où", "größer")]


def test_compressed_and_in_archives(tmp_path: Path) -> None:
    content = document(unit("one", "eins")).encode()
    packed = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstandard.compress}
    for suffix, compress in packed.items():
        path = tmp_path / f"a.tmx.{suffix}"
        path.write_bytes(compress(content))
        assert read(path) == [("one", "eins")]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/b.tmx", content)
    (member,) = members(tmp_path / "a.zip")
    assert read(member) == [("one", "eins")]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "line", "reason"),
    [
        ("<tu><tuv></tu>\n", 7, "mismatch"),
        (unit("NUL \0 byte", "x"), 7, "Char 0x0 out of allowed range"),
        (unit("form \f feed", "x"), 7, "invalid Char value 12"),
        (unit("separators \x1c\x1d", "x"), 7, "invalid Char value 28"),
        (unit("fish & chips", "x"), 7, "name"),
        ("<tu>\n<tuv", 8, ""),
    ],
)
def test_bad_xml_is_refused_with_line_and_byte_after_what_was_good(write, last: str, line: int, reason: str) -> None:
    good = document(unit("one", "eins"), unit("two", "zwei\n und mehr"))
    path = write(good.removesuffix(END) + last + END)
    rows = read_tmx(path, "en", "de")
    assert [next(rows), next(rows)] == [("one", "eins"), ("two", "zwei und mehr")]
    with pytest.raises(BrokenText) as caught:
        list(rows)
    told = caught.value.problem
    assert reason in told
    content = path.read_bytes()
    place, byte = (int(told.split(f"{word} ")[1].rstrip(":,").split(",")[0].split(":")[0]) for word in ("line", "byte"))
    assert place == line
    assert content.count(b"\n", 0, byte - 1) + 1 == place  # the byte lies in the line


def test_a_place_in_utf_16_is_counted_in_its_bytes(write) -> None:
    path = write(START + unit("one", "eins") + "<tu>\n  <<", "utf-16")
    with pytest.raises(BrokenText, match="line 4, byte ") as caught:
        read(path)
    byte = int(caught.value.problem.split("byte ")[1].split(":")[0])
    assert path.read_bytes()[: byte - 1].decode("utf-16").count("\n") == 3


def test_truncated_archives_and_files(tmp_path: Path, write) -> None:
    text = document(*(unit(f"sentence {number}", f"Satz {number}") for number in range(5000)))
    packed = gzip.compress(text.encode())
    (tmp_path / "b.tmx.gz").write_bytes(packed[: len(packed) // 2])
    rows = []
    with pytest.raises(BrokenText, match=r"b\.tmx\.gz is truncated after line \d+"):
        rows.extend(read_tmx(tmp_path / "b.tmx.gz", "en", "de"))
    with pytest.raises(BrokenText, match=r"a\.tmx, line 2504, byte"):
        read(write("".join(text.splitlines(keepends=True)[:2503]) + "<tu>"))
    for path in (tmp_path / "missing.tmx", tmp_path):
        with pytest.raises(UserError, match=r"does not exist|is a folder"):
            read_tmx(path, "en", "de")


def test_entities_are_not_resolved(write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", "utf-8")
    laughs = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 30))
    kinds = f'<!ENTITY own "text"><!ENTITY file SYSTEM "{tmp_path}/secret"><!ENTITY net SYSTEM "http://127.0.0.1:9/x">'
    head = HEAD.replace(' SYSTEM "tmx14.dtd"', f" [{kinds}{laughs}]")
    counts: Counter[str] = Counter()
    units = [unit("one &own; two", "x"), unit("&file;", "x"), unit("&net;", "x"), unit("good", "gut")]
    assert read(write(head + START + "".join(units) + END), counts=counts) == [("good", "gut")]
    assert counts == {"entities not resolved": 3}
    for laughing in (unit("&a29;", "x"), unit("x", "y", 'tuid="&a29;"')):  # refused, or at least never expanded
        try:
            assert read(write(head + START + laughing + END), keep=["tuid"]) == []
        except BrokenText as error:
            assert "entity" in error.problem


def test_a_text_beyond_the_limits_of_libxml2_is_refused(write) -> None:
    with pytest.raises(BrokenText, match="line 4"):
        read(write(document(unit("x" * 11_000_000, "y"))))


TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\n").filter(
        # what XML 1.0 can hold (2.2), but for the line break
        lambda c: c in "\t\r" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000"
    ),
    max_size=30,
)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_what_lxml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("tmx") / "a.tmx"
    write_tmx(path, pairs)
    assert read(path) == [(left.rstrip("\r"), right.rstrip("\r")) for left, right in pairs]
    assert len(etree.parse(str(path)).findall(".//tu")) == len(pairs)


PEAK = """
import resource, sys
from kd.corpora.tmx import read_tmx
count = sum(1 for _ in read_tmx(sys.argv[1], "en", "de"))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for number in (2_000, 60_000):
        path = tmp_path / f"{number}.tmx"
        with path.open("w", encoding="utf-8") as file:
            file.write(HEAD + START)
            for place in range(number):
                # Names and short texts that are all different: libxml2 remembers names for as long as it parses.
                file.write(unit(f"a sentence of some length, number {place}", f"Satz {place}", f'tuid="{place}"'))
            file.write(END)
        done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
        count, peak = map(int, done.stdout.split())
        assert count == number
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 4_000  # KB; the larger file has 11 MB
