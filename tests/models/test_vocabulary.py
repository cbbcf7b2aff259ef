"""Vocabularies: deterministic, lossless, with fairseq's ids, and with errors a user understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.models import vocabulary
from kd.recipe.schema import VocabularyConfig

SENTENCES = [
    f"{subject} {verb} {thing} in {place}{end}"
    for subject in ("The cat", "Ein Hund", "Jürgen", "Die Straße", "{name}", "It's {count, plural}")
    for verb in ("sees", "läuft", "wünscht", "has 12", "m²")
    for thing in ("nothing", "etwas", "größere Bäume", "three", "§ 7")
    for place in ("Brussels", "Wien", "Köln", "the\u00a0house")
    for end in (".", "!", "?", " …")
]

NASTY = [
    "",
    " ",
    "   ",
    " leading",
    "trailing ",
    "two  spaces",
    "tab\there",
    "line\u2028separator\u2029and\u0085next",
    "form\ffeed\rreturn\x00nul\x1bescape",
    "no\u00a0break\u3000ideographic",
    "日本語 😀 e\u0301",
    "</s> <s> <unk> <pad> <0x41>",
    "{name} and {count, plural} and {other}",
    "m² ﬁne ½",
    "a ||| b",
    "\ufeffmark",
]


def config(**changes: object) -> VocabularyConfig:
    values = {
        "size": 316,
        "model": "unigram",
        "character_coverage": 1.0,
        "normalization": "identity",
        "byte_fallback": True,
        "split_digits": True,
        "sample": 100_000,
        "seed": 1,
    }
    return VocabularyConfig(**(values | changes))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> vocabulary.Vocabulary:
    folder = tmp_path_factory.mktemp("vocabulary")
    vocabulary.train([*SENTENCES, "odd\u2028\r\u0085ones"], folder, config(), ["{name}", "{count, plural}"])
    return vocabulary.Vocabulary(folder)


@pytest.mark.parametrize("text", NASTY)
def test_text_survives(pieces: vocabulary.Vocabulary, text: str) -> None:
    [encoded] = pieces.encode_pieces([text])
    assert pieces.decode_pieces(encoded) == text
    [ids] = pieces.encode_ids([text])
    assert pieces.pieces_of(ids) == encoded
    assert pieces.ids_of(encoded) == ids


def test_a_placeholder_is_one_piece(pieces: vocabulary.Vocabulary) -> None:
    [encoded] = pieces.encode_pieces(["see {name} or {count, plural}."])
    assert "{name}" in encoded
    assert "{count,▁plural}" in encoded


def test_the_size_counts_everything(pieces: vocabulary.Vocabulary) -> None:
    assert pieces.size == 316


def test_ids_are_those_that_fairseq_reads_from_dict_txt(pieces: vocabulary.Vocabulary) -> None:
    from kd.engines.fairseq import compat

    compat.install()
    from fairseq.data import Dictionary

    dictionary = Dictionary.load(str(pieces.folder / "dict.txt"))
    assert len(dictionary) == pieces.size
    for text in SENTENCES[:50] + NASTY:
        [encoded], [ids] = pieces.encode_pieces([text]), pieces.encode_ids([text])
        assert [dictionary.index(piece) for piece in encoded] == ids
    assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)


def test_a_vocabulary_numbered_otherwise_is_read_by_its_dictionary(
    pieces: vocabulary.Vocabulary, tmp_path: Path
) -> None:
    for name in ("vocabulary.model", "dict.txt"):
        (tmp_path / name).write_bytes((pieces.folder / name).read_bytes())
    lines = (tmp_path / "dict.txt").read_text("utf-8").split("\n")[:-1]
    (tmp_path / "dict.txt").write_text("".join(line + "\n" for line in reversed(lines)), "utf-8")
    other = vocabulary.Vocabulary(tmp_path)
    [encoded] = other.encode_pieces(["Ein Hund"])
    assert other.pieces_of(other.encode_ids(["Ein Hund"])[0]) == encoded
    assert other.encode_ids(["Ein Hund"]) != pieces.encode_ids(["Ein Hund"])


def test_no_piece_breaks_a_line(pieces: vocabulary.Vocabulary) -> None:
    lines = (pieces.folder / "dict.txt").read_text("utf-8")
    assert len(lines.splitlines()) == lines.count("\n") == pieces.size - 4


def test_equal_text_gives_equal_files_in_another_process(pieces: vocabulary.Vocabulary, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2]); import test_vocabulary as t\n"
        "t.vocabulary.train([*t.SENTENCES, 'odd\\u2028\\r\\u0085ones'], pathlib.Path(sys.argv[1]), t.config(),"
        " ['{name}', '{count, plural}'])"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)], check=True)
    for name in ("vocabulary.model", "vocabulary.vocab", "dict.txt"):
        assert (tmp_path / name).read_bytes() == (pieces.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("sentences", "changes", "message"),
    [
        ([], {}, "no text"),
        (
            SENTENCES[:20],
            {"size": 8000},
            r"20 sentences have too few distinct words for a vocabulary of 8000 pieces.*vocabulary\.size",
        ),
        (SENTENCES, {"size": 100}, r"cannot hold.*vocabulary\.size to more than"),
        (SENTENCES, {"model": "magic"}, "sentencepiece refused"),
    ],
)
def test_impossible_wishes_are_explained(
    tmp_path: Path, sentences: list[str], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        vocabulary.train(sentences, tmp_path, config(**changes), [])


def test_the_sample_is_the_beginning(tmp_path: Path) -> None:
    vocabulary.train(SENTENCES, tmp_path / "a", config(sample=800, size=305), [])
    vocabulary.train(SENTENCES[:800], tmp_path / "b", config(size=305), [])
    assert (tmp_path / "a" / "vocabulary.model").read_bytes() == (tmp_path / "b" / "vocabulary.model").read_bytes()


def test_a_folder_without_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no .*vocabulary\.model"):
        vocabulary.Vocabulary(tmp_path)


@pytest.mark.parametrize("taken", ["</s>", "<pad>", "<unk>", "<0x41>"])
def test_placeholders_that_mean_something_else_are_refused(tmp_path: Path, taken: str) -> None:
    """`</s>` in a text with HTML would end its sentence there."""
    with pytest.raises(UserError, match=rf"vocabulary\.placeholders matches {taken} in the text"):
        vocabulary.train([*SENTENCES, f"a {taken} b"], tmp_path, config(), ["{name}", taken])


def test_placeholders_are_found_by_frequency() -> None:
    text = ["{b} {a} {c}", "{b} {a}", "{b}"]
    assert vocabulary.find_placeholders(text, r"\{\w+\}", 2) == ["{b}", "{a}"]
    with pytest.raises(UserError, match=r"vocabulary\.placeholders"):
        vocabulary.find_placeholders(text, "(", 2)
