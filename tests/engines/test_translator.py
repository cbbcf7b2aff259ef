"""`kd translate` and `kd.Translator`: a line for each line whatever stands in it, in flat memory, with clean ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import kd
from kd.base.errors import UserError
from kd.engines.ctranslate2 import export
from kd.engines.reading import reader
from kd.models.description import Languages, Original

CORES = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def exported(trained, task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "int8"
    export(trained.folder, folder, "int8", Original(Languages(("de",), ("en",))))
    return folder


def translate(model: Path, text: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kd", "translate", "--model", str(model), *options]
    return subprocess.run(command, input=text, capture_output=True, env=CORES)


# What is a line break to some tools and content here, and what models were never trained on.
TORTURE = [
    "eins zwei.",
    "",
    "   ",
    "drei\u2028vier",
    "fünf\u0085sechs",
    "\ufeffeins",
    "zwei\r",
    "lone\rreturn",
    "form\ffeed",
    "nul\x00nul",
    "tab\ttab",
    " ".join(["eins"] * 10_000),
    "x" * 5_000,
    "שלום\u200f עולם",
    "👩‍👩‍👧‍👦 zwei",
    "\u2581 eins",
    "acht neun.",
]


@pytest.mark.parametrize("form", ["exported", "trained"])
def test_a_line_for_each_line_of_the_torture_text(form: str, exported: Path, trained) -> None:
    model = exported if form == "exported" else trained.folder
    text = "\n".join(TORTURE).encode()
    alone = translate(model, TORTURE[0].encode(), "--threads", "1").stdout
    for ending in (b"\n", b""):
        done = translate(model, text + ending, "--threads", "1")
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stdout.split(b"\n")
        assert lines.pop() == b""
        assert len(lines) == len(TORTURE)
        assert [place for place, line in enumerate(lines) if not line] == [1, 2]
        assert lines[0] + b"\n" == alone
        assert len(lines[11].split()) > 1_000  # the long line is translated to its end, not cut


@pytest.mark.parametrize("form", ["exported", "trained"])
def test_invisible_characters_change_no_translation(form: str, exported: Path, trained) -> None:
    translator = kd.Translator(exported if form == "exported" else trained.folder, threads=1)
    (expected,) = translator.translate(["eins zwei drei."])
    same = ["\ufeffeins zwei drei.", "eins\tzwei  drei. ", "eins zwei\u00a0drei.", "ei\u00adns z\u200bwei drei.\r"]
    assert list(translator.translate(same)) == [expected] * 4
    assert list(translator.translate(["f\u0075\u0308nf.", "fünf."])) == list(translator.translate(["fünf."])) * 2
    assert list(translator.translate(["\ufeff", "\u200b \u00a0"])) == ["", ""]
    as_is = kd.Translator(exported if form == "exported" else trained.folder, threads=1, as_is=True)
    assert list(as_is.translate(["eins zwei drei."])) == [expected]
    with_mark, without = (next(as_is.nbest([text]))[0].score for text in (same[0], "eins zwei drei."))
    # The sentencepiece model of an export normalises as well.
    assert (with_mark != without) == (form == "trained")


def test_a_space_that_the_vocabulary_has_stays() -> None:
    assert reader("\u00a0".__eq__)("10\u00a0000\u202f€\u00a0\t5") == "10\u00a0000 € 5"


def test_input_other_than_lines_of_text_is_refused(exported: Path) -> None:
    translator = kd.Translator(exported, threads=1)
    with pytest.raises(TypeError, match="instead of a single text"):
        translator.translate("eins zwei.")
    wrong: Any = [b"eins"]
    with pytest.raises(TypeError, match="not bytes"):
        list(translator.translate(wrong))


def test_a_missing_gpu_is_reported(exported: Path, trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: 0)
    for model in (exported, trained.folder):
        with pytest.raises(UserError, match="No CUDA device"):
            kd.Translator(model, device="cuda")


def test_invalid_utf_8_is_refused_with_its_line(exported: Path) -> None:
    done = translate(exported, b"eins.\nzwei.\n\xff drei.\nvier.\n")
    assert done.returncode == 2
    assert b"line 3: byte 1 of the line is not valid UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stdout.count(b"\n") == 2  # what came before it is translated


def test_no_lines_give_no_lines(exported: Path) -> None:
    done = translate(exported, b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_nbest_lists_are_moses_and_scores_fall(exported: Path, tmp_path: Path) -> None:
    from kd.corpora.moses import read_nbest

    done = translate(exported, b"eins zwei drei.\n\nvier.\n", "--nbest", "3")
    (tmp_path / "nbest").write_bytes(done.stdout)
    lists = list(read_nbest(tmp_path / "nbest"))
    assert [each.id for each in lists] == [0, 1, 2]
    assert [len(each.hypotheses) for each in lists] == [3, 1, 3]
    scores = [hypothesis.score for hypothesis in lists[0].hypotheses]
    assert scores == sorted(scores, reverse=True)
    best = translate(exported, b"eins zwei drei.\n", "--score").stdout.decode().rstrip("\n").split("\t")
    assert (float(best[0]), best[1]) == (scores[0], lists[0].hypotheses[0].text)


def test_the_python_class_translates_as_the_command(exported: Path, task) -> None:
    sources = [source for source, _ in task.dev]
    translator = kd.Translator(exported, threads=1)
    assert list(translator.translate(iter(sources))) == translate(
        exported, "\n".join(sources).encode(), "--threads", "1"
    ).stdout.decode().rstrip("\n").split("\n")
    references = [target for _, target in task.dev]
    right = sum(ours == theirs for ours, theirs in zip(translator.translate(sources), references, strict=True))
    assert right > 0.3 * len(references)  # about 0.7; by chance hardly any


def test_trainings_translate_as_an_ensemble(trained, second: Path) -> None:
    lines = ["eins zwei drei.", ""]
    both = kd.Translator([trained.folder, second], threads=1, nbest=2)
    assert [len(each) for each in both.nbest(lines)] == [2, 1]
    with pytest.raises(UserError, match="There is no folder"):
        kd.Translator([trained.folder, trained.folder.parent / "none"])


def test_long_text_is_translated_sentence_by_sentence(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translator = kd.Translator(exported, threads=1)
    sentence = "eins zwei drei vier."
    (alone,) = translator.translate([sentence])
    monkeypatch.setattr(translator._engine, "max_source_pieces", translator._engine._model.pieces(sentence, 0))
    assert list(translator.translate([" ".join([sentence] * 4), f"{sentence}\u2028{sentence}", sentence])) == [
        " ".join([alone] * 4),
        f"{alone}\u2028{alone}",
        alone,
    ]


def test_every_byte_of_rare_characters_counts(exported: Path) -> None:
    """A character of four bytes has four tokens, and sentencepiece adds one for the space; all must be kept."""
    translator = kd.Translator(exported, threads=1)
    pieces = translator._engine._model.pieces
    for count in (1, 5, 10):
        text, whole = "𠀀" * count, 4 * count
        assert pieces(text, 0) == whole + 1
        assert pieces(text, whole) > whole


def test_mistakes_are_one_sentence(exported: Path, tmp_path: Path) -> None:
    for model, options, words in (
        (tmp_path / "none", (), b"There is no folder"),
        (tmp_path, (), b"has no model"),
        (exported, (str(exported),), b"cannot translate as an ensemble"),
    ):
        done = translate(model, b"eins\n", *options)
        assert done.returncode == 2, done
        assert words in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_and_ctrl_c_end_it_cleanly(exported: Path) -> None:
    command = [sys.executable, "-m", "kd", "translate", "--model", str(exported), "--threads", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=CORES, **pipes) as process:
        process.stdin.write(b"eins.\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n")  # an answer before more is asked
        process.stdout.close()
        process.stdin.write(b"zwei.\n")
        process.stdin.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
    # A shell's background jobs ignore Ctrl-C, and so does what they start, unless it is told otherwise.
    heeding = ["env", "--default-signal=INT", *command]
    with subprocess.Popen(heeding, env=CORES, start_new_session=True, **pipes) as process:
        process.stdin.write(b"eins.\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(0.2)  # it waits for a line now
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_memory_does_not_grow_with_the_lines(exported: Path) -> None:
    def peak(lines: int) -> int:
        program = (
            "import resource, sys; import kd.cli\n"
            "status = kd.cli.main(['translate', '--model', sys.argv[1], '--threads', '1', '--beam', '1'])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
        )
        text = b"eins zwei.\n" * lines
        done = subprocess.run(
            [sys.executable, "-c", program, str(exported)], input=text, capture_output=True, env=CORES
        )
        assert done.returncode == 0
        assert done.stdout.count(b"\n") == lines
        return int(done.stderr.split()[-1])

    assert peak(40_000) < 1.1 * peak(8_000)


def test_the_threads_of_libraries_are_not_those_of_a_model(exported: Path) -> None:
    """With MKL_NUM_THREADS, which many clusters set, MKL used threads of its own for small products."""
    program = (
        "import os, kd; translator = kd.Translator(os.environ['MODEL']);"
        "list(translator.translate(['eins zwei.'] * 20));"
        "print(len(os.listdir('/proc/self/task')))"
    )
    counts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=CORES | {"MODEL": str(exported), "MKL_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "4")
    ]
    assert counts[0] == counts[1]
