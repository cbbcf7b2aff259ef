"""`kd select` on n-best lists of Moses, Marian and fairseq; a mistake is one sentence with the line."""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sacrebleu
import zstandard

from kd.cli import main
from tests.corpora.samples import TORTURE

REFERENCES = ["Article 12", "the cat sat on the mat", "", "Yes ."]
LISTS = [
    ["Article 13 of the Treaty", "Article 12"],
    ["the cat", "the cat sat on a mat", "a dog"],
    ["", "x"],
    ["Yes.", "No", "Yes ."],
]
CHOSEN = ["Article 12", "the cat sat on a mat", "x", "Yes ."]
MOSES = [
    f"{number} ||| {text} ||| F0= -{rank} LM0= -1 -2 ||| -{rank}.5"
    for number, texts in enumerate(LISTS)
    for rank, text in enumerate(texts)
]


def write(path: Path, lines: list[str]) -> Path:
    data = "".join(f"{line}\n" for line in lines).encode()
    pack: Callable[[bytes], bytes] = {".gz": gzip.compress, ".zst": zstandard.compress, ".xz": lzma.compress}.get(
        path.suffix, bytes
    )
    path.write_bytes(pack(data))
    return path


def select(folder: Path, lines: list[str], *options: str, references: list[str] = REFERENCES, nbest: str = "n") -> int:
    write(folder / nbest, lines)
    write(folder / "r", references)
    return main(["select", "--nbest", str(folder / nbest), "--reference", str(folder / "r"),
                 "--output", str(folder / "out"), "--threads", "1", *options])  # fmt: skip


def chosen(folder: Path) -> list[str]:
    return (folder / "out").read_bytes().decode().split("\n")[:-1]


def test_the_closest_hypothesis_is_chosen_and_summarised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert select(tmp_path, MOSES, "--ranks", str(tmp_path / "ranks")) == 0
    assert chosen(tmp_path) == CHOSEN
    best = [
        max(sacrebleu.sentence_bleu(text, [REFERENCES[n]]).score for text in texts) for n, texts in enumerate(LISTS)
    ]
    ranks = [line.split("\t") for line in (tmp_path / "ranks").read_text().split("\n")[:-1]]
    assert [(int(rank), float(score)) for rank, score in ranks] == list(zip([1, 1, 1, 2], best, strict=True))
    told = capsys.readouterr().out
    assert f"{sum(best) / 4:.2f}" in told
    assert "4 (100.0%)" in told
    assert f"tok:13a|smooth:exp|version:{sacrebleu.__version__}" in told


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
def test_compressed_lists_are_read(tmp_path: Path, suffix: str) -> None:
    assert select(tmp_path, MOSES, nbest=f"n{suffix}") == 0
    assert chosen(tmp_path) == CHOSEN


@pytest.mark.parametrize(
    "form",
    [
        lambda line: " ||| ".join(line.split(" ||| ")[:2]),
        lambda line: " ||| ".join(line.split(" ||| ")[:3]),
        lambda line: " ||| ".join(line.split(" ||| ")[i] for i in (0, 1, 3)),
        lambda line: f"{line} ||| 0-0 1-1",
        # marian-decoder --n-best --alignment --word-scores: src/translator/output_printer.h of Marian 1.12
        lambda line: line.replace(" ||| F0", " ||| 0-0 1-1 ||| F0"),
        lambda line: line.replace(" ||| F0", " ||| 0-0 ||| WordScores= -0.1 -0.2 ||| F0"),
        lambda line: line.replace(" ||| F0", "  ||| F0"),  # Moses' own two blanks
        lambda line: line.replace("|||  |||", "||| |||"),  # blanks squeezed by another tool
        lambda line: line.replace("F0=", "Score=  ").replace("LM0= -1 -2", "WordPenalty0= -2"),
    ],
    ids=[
        "no features, no score",
        "no score",
        "no features",
        "alignment",
        "Marian's alignment",
        "Marian's word scores",
        "two blanks",
        "squeezed",
        "spaces",
    ],
)
def test_lists_with_other_fields_are_read(tmp_path: Path, form: Callable[[str], str]) -> None:
    assert select(tmp_path, [form(line) for line in MOSES]) == 0
    assert chosen(tmp_path) == CHOSEN


ZH = ["0 ||| 他讨厌香蕉。 ||| F0= -1 ||| -1", "0 ||| 我非常喜欢吃新鲜的苹果 ||| F0= -2 ||| -2"]


@pytest.mark.parametrize("options", [[], ["--language", "zho_Hans"], ["--tokenizer", "zh"]])
def test_chinese_is_scored_by_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """sacreBLEU's 13a takes a Chinese sentence for one word, so that every hypothesis but the exact one has score 0."""
    assert select(tmp_path, ZH, *options, references=["我非常喜欢吃新鲜的苹果。"]) == 0
    assert chosen(tmp_path) == ["我非常喜欢吃新鲜的苹果"]
    assert "tok:zh" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["▁ein ▁Hund ▁bellt", "ein Hu@@ nd bellt"])
def test_hypotheses_in_pieces_are_refused_unless_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    lines = [f"{number} ||| {text} ||| F0= -1 ||| -1" for number in range(4)]
    assert select(tmp_path, lines) == 2
    assert "n, line 1: the hypothesis is in sub-words" in capsys.readouterr().err
    assert select(tmp_path, lines, "--as-is") == 0
    assert chosen(tmp_path) == [text] * 4


def test_lists_out_of_order_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["0 ||| x ||| F0= -9 ||| -9", "0 ||| y ||| F0= -1 ||| -1", "1 ||| z ||| F0= -1 ||| -1"]
    assert select(tmp_path, lines, references=["y", "z"]) == 0
    assert "lists not in order of score    1: `first` is the first line" in capsys.readouterr().out


def test_two_outputs_of_fairseq_generate_in_one_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"D-{number}\t-1.0\tx" for number in (1, 0)] * 2
    assert select(tmp_path, lines, "--format", "fairseq", references=["x", "x"]) == 2
    assert "n, line 3: the id 1 occurs again after another id" in capsys.readouterr().err


def test_messages_on_fairseqs_output_name_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["S-0\tx", "H-0\t-1.0\tx", "D-0\t-1.0\tx", "P-0\t-1", "H-0\t-1.0\tx", "D-0\tnan\tx"]
    assert select(tmp_path, lines, "--format", "fairseq", references=["x"]) == 2
    assert "n, line 6: 'nan' is not a score" in capsys.readouterr().err


def test_output_of_fairseq_generate_is_read_in_any_order(tmp_path: Path) -> None:
    # Form of fairseq 0.12.2, fairseq_cli/generate.py: S, T, H, D and P lines of a sentence, in the order of lengths.
    lines = ["2026-01-01 | INFO | fairseq.tasks.translation | [en] dictionary: 4000 types"]
    for number in (2, 0, 3, 1):
        lines += [f"S-{number}\tsource", f"T-{number}\t{REFERENCES[number]}"]
        for rank, text in enumerate(LISTS[number]):
            lines += [f"H-{number}\t-{rank}.5\t▁{text}", f"D-{number}\t-{rank}.5\t{text}", f"P-{number}\t-0.1 -0.2"]
    lines.append("Generate test with beam=4: BLEU4 = 1.00")
    assert select(tmp_path, lines, "--format", "fairseq") == 0
    assert chosen(tmp_path) == CHOSEN
    plain = [line.replace("▁", "") for line in lines if not line.startswith("D-")]
    assert select(tmp_path, plain, "--format", "fairseq") == 0
    assert chosen(tmp_path) == CHOSEN


def test_special_characters_do_not_shift_lines(tmp_path: Path) -> None:
    references = [text for text in TORTURE if len(text) < 1000]
    lines = [f"{n} ||| {text} ||| F0= -{rank} ||| -{rank}" for n, gold in enumerate(references)
             for rank, text in enumerate(["else", gold])]  # fmt: skip
    assert select(tmp_path, lines, references=references) == 0
    assert chosen(tmp_path) == [text.strip(" ") if text.strip() else "else" for text in references]


def test_many_processes_give_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd.cli.select_files.FEWEST", 1)
    monkeypatch.setattr("kd.cli.select_files.CHUNK", 7)
    references = [f"a sentence of {n} words {n % 7}" for n in range(100)]
    lines = [f"{n} ||| a sentence {(n + k) % 7} of {n} words ||| -{k}" for n in range(100) for k in range(3)]
    select(tmp_path, lines, references=references)
    one = chosen(tmp_path)
    select(tmp_path, lines, "--threads", "2", references=references)
    assert chosen(tmp_path) == one
    assert len(one) == 100


def test_metrics_and_their_options_change_the_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "qe", [str(-rank) for texts in LISTS for rank in range(len(texts))])
    assert select(tmp_path, MOSES, "--metric", "external", "--scores", str(tmp_path / "qe")) == 0
    assert chosen(tmp_path) == [texts[0] for texts in LISTS]
    assert select(tmp_path, MOSES, "--metric", "model") == 0
    assert chosen(tmp_path) == [texts[0] for texts in LISTS]
    assert select(tmp_path, MOSES, "--metric", "mix", "--mix", "bleu=0.5", "chrf=0.5") == 0
    assert chosen(tmp_path) == CHOSEN
    assert select(tmp_path, MOSES, "--smoothing", "floor", "--smooth-value", "0.01", "--tokenizer", "char") == 0
    assert "tok:char|smooth:floor[0.01]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda lines: lines[2:], "n, line 1: the list has the id 1, but 0 was expected."),
        (lambda lines: lines[:2] + lines[5:], "n, line 3: the list has the id 2, but 1 was expected."),
        (lambda lines: lines[:-3], "n ends before the list of 3, and "),
        (lambda lines: [*lines, lines[0]], "n, line 11: the id 0 comes after 3."),
        (lambda lines: lines[:2] + lines[5:7] + lines[2:5] + lines[7:], "n, line 3: the list has the id 2, but 1"),
        (lambda lines: [*lines, "4 ||| x ||| -1"], "n, line 11: the list of 4 has no line in "),
        (lambda lines: [*lines[:3], "1 ||| a ||| b ||| F0= 1 ||| -1", *lines[4:]], "n, line 4: a feature's name is"),
        (lambda lines: [*lines[:3], "1 ||| a ||| F0= -1 ||| best", *lines[4:]], "n, line 4: 'best' is not a score"),
        (lambda lines: [*lines[:3], "", *lines[4:]], "n, line 4: it does not begin with an id"),
        (lambda lines: [*lines[:3], "x ||| a", *lines[4:]], "n, line 4: it does not begin with an id"),
    ],
    ids=["first lost", "one lost", "last lost", "id returns", "swapped", "too many", "separator in text", "score",
         "empty line", "no id"],
)  # fmt: skip
def test_lists_that_do_not_fit_are_one_sentence_with_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[list[str]], list[str]], sentence: str
) -> None:
    (tmp_path / "out").write_text("as before\n")
    assert select(tmp_path, change(MOSES), "--ranks", str(tmp_path / "ranks")) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/{sentence}" in told
    assert told.count("\n") == 1
    assert (tmp_path / "out").read_text() == "as before\n"
    assert {path.name for path in tmp_path.iterdir()} == {"n", "r", "out"}


def test_scores_of_another_file_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for count, message in ((9, "ends after line 9, but the n-best list goes on"), (11, "goes on after line 10")):
        write(tmp_path / "qe", ["1.0"] * count)
        assert select(tmp_path, MOSES, "--metric", "external", "--scores", str(tmp_path / "qe")) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "r", REFERENCES)
    path = write(tmp_path / "n.gz", MOSES)
    path.write_bytes(path.read_bytes()[:-9])
    assert (
        main(["select", "--nbest", str(path), "--reference", str(tmp_path / "r"), "--output", str(tmp_path / "o")]) == 2
    )
    assert "n.gz is truncated after line" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_missing_lists_are_filled_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = MOSES[:2] + MOSES[5:7]
    assert select(tmp_path, lines, "--missing", "gold", "--ranks", str(tmp_path / "ranks")) == 0
    assert chosen(tmp_path) == [CHOSEN[0], REFERENCES[1], CHOSEN[2], REFERENCES[3]]
    assert [line[0] for line in (tmp_path / "ranks").read_text().split("\n")[:-1]] == ["1", "-", "1", "-"]
    assert "lines without a list" in capsys.readouterr().out
    assert select(tmp_path, lines, "--missing", "empty") == 0
    assert chosen(tmp_path) == [CHOSEN[0], "", CHOSEN[2], ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "{}/r"], "would be overwritten"),
        (["--output", "{}/no/o"], "/no does not exist"),
        (["--output", "{}/o.xz"], "does not compress to .xz"),
        (["--ranks", "{}/out"], "same file"),
        (["--scores", "{}/r"], "--scores has no effect without the metric external."),
        (["--metric", "external"], "The metric external needs scores."),
        (["--metric", "mix", "--mix", "bleu"], "has no weight"),
        (["--mix", "bleu=1"], "has no effect with --metric bleu"),
        (["--mix", "bleu=x"], "has no weight"),
        (["--metric", "mix"], "--metric mix has no metrics to mix. Name metrics and weights: --mix bleu=0.5"),
        (["--metric", "mix", "--mix", "blue=1"], "There is no metric blue to mix (--mix blue). Choose among: bleu,"),
        (["--metric", "mix", "--mix", "bleu=0"], "--mix bleu is 0.0. Set it to"),
        (["--tokenizer", "moses"], "There is no --tokenizer moses. Choose one of: "),
        (["--smoothing", "flor"], "There is no --smoothing flor. Choose one of: "),
        (["--smoothing", "floor", "--smooth-value", "-1"], "--smooth-value is -1.0."),
        (["--metric", "chrf", "--word-order", "-1"], "--word-order is -1. Set it to 0 for chrF"),
        (
            ["--word-order", "2"],
            "--word-order has no effect with --metric bleu. It is an option of chrf: add --metric chrf",
        ),
        (["--metric", "chrf", "--tokenizer", "zh"], "--tokenizer has no effect with --metric chrf"),
        (["--metric", "mix", "--mix", "bleu=1", "--word-order", "2"], "--word-order has no effect with --metric mix"),
        (["--smooth-value", "1"], "--smooth-value has no effect with --smoothing exp"),
        (["--nbest", "{}/absent"], "absent does not exist"),
    ],
)
def test_mistakes_in_options_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert select(tmp_path, MOSES, *[option.format(tmp_path) for option in options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "select." not in told  # the recipe's keys


def test_pipes_on_both_sides(tmp_path: Path) -> None:
    write(tmp_path / "r", ["ein Hund", "ja"])
    lists = "0 ||| ein Hund bellt\n0 ||| ein Hund\n1 ||| ja\n"
    command = [
        sys.executable,
        "-m",
        "kd",
        "select",
        "--nbest",
        "-",
        "--reference",
        str(tmp_path / "r"),
        "--output",
        "-",
    ]
    done = subprocess.run(command, input=lists, capture_output=True, text=True, check=True)
    assert done.stdout == "ein Hund\nja\n"
    assert "another hypothesis than the first chosen  1" in done.stderr
