"""The command line starts fast, and mistakes are one sentence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kd.cli import main

HEAVY = (
    "torch",
    "fairseq",
    "hydra",
    "omegaconf",
    "sacrebleu",
    "sentencepiece",
    "ctranslate2",
    "numpy",
    "rich",
    "comet",
    "argcomplete",
)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["evaluate", "--help"], ["select", "--help"], ["serve", "--help"], ["--version"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    # Not a timed test: what makes `kd --help` slow is imports, and those can be named.
    code = (
        "import sys\nfrom kd.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("loaded []")


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "status",
        "clean",
        "report",
        "evaluate",
        "select",
        "translate",
        "serve",
        "release",
        "task",
        "settings",
        "recipes",
    ],
)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"Example: kd {command} " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["run", "recipe=demo", "--unknown"], ["status", "--remove", "recipe=demo"]])
def test_an_unknown_option_is_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("kd: There is no option")
    assert "Traceback" not in told


def test_a_value_without_a_key_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "recipe=demo", "=3"]) == 2
    assert capsys.readouterr().err.startswith("kd: '=3' is neither an option nor an override.")


def test_light_stages_load_no_torch() -> None:
    # A stage that only reads and writes text would pay seconds, and a login node gigabytes, for it.
    code = (
        "import sys\nfrom kd.stages import KINDS, load_kind\n"
        "for name in KINDS:\n    load_kind(name)\n"
        "heavy = ('torch', 'fairseq', 'ctranslate2', 'comet', 'vl_convert')\n"
        "print('loaded', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "loaded []"


def test_a_reader_that_has_ended_ends_the_command_as_shells_expect() -> None:
    """As in `kd status … | head -1`: 128 + SIGPIPE, whether rich or print writes."""
    for arguments in (["status", "recipe=demo"], ["recipes"]):
        process = subprocess.Popen([sys.executable, "-m", "kd", *arguments], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 141, arguments


def test_a_terminal_that_knows_ascii_alone_gets_escapes_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kd", "status", "recipe=demo", "run.dir='/tmp/übung'", "store.dir='/tmp/übung'"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/tmp/\\xfcbung" in done.stdout and "Traceback" not in done.stderr


def test_a_full_disk_behind_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "kd", "container", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == (
        "kd: The output cannot be written: No space left on device. Free some space, or write to another disk.\n"
    )
