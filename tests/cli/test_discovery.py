"""Commands, recipes and keys can be found without reading the documentation: help, lists, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd.cli import completion, main
from kd.recipe.find import recipes
from kd.recipe.schema.recipe import RecipeConfig
from kd.recipe.schema.search import search
from kd.recipe.schema.walk import settings


def test_kd_alone_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: kd") and "kd run recipe=demo" in printed


def test_recipes_are_listed_with_a_line_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "recipe.yaml").write_text("# My own pair\nseed: 1\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(recipes())
    assert any(line.split() == ["mine", "My", "own", "pair"] for line in lines)
    assert any(line.startswith("files ") and line.endswith("your own files") for line in lines)


def test_a_recipe_without_its_key_is_proposed_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "demo"]) == 2
    assert capsys.readouterr().err == "kd: 'demo' is the name of a recipe. Write recipe=demo.\n"


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("recipe=de", ["recipe=demo"]),
        ("student.optimizer.l", ["student.optimizer.learning_rate=", "student.optimizer.label_smoothing="]),
        ("student.precision=b", ["student.precision=bf16"]),
        ("machine=lu", ["machine=lumi"]),
        ("machine.dev", ["machine.device="]),
        ("machine.online=", ["machine.online=true", "machine.online=false"]),
        ("corpus.leakage=o", ["corpus.leakage=off"]),
    ],
)
def test_keys_and_values_are_completed(typed: str, completed: list[str]) -> None:
    assert completion.overrides(typed) == completed


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("kd ru", ["run "]),
        ("kd settings teacher.batch.t", ["teacher.batch.target_tokens "]),
        ("kd run --mult", ["--multirun "]),
    ],
)
def test_a_shell_completes_as_argcomplete_asks(line: str, completed: list[str], tmp_path: Path) -> None:
    # What the shell code of `kd completion` does: the line by environment, the answer by descriptor 8.
    answer = tmp_path / "answer"
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "0",
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "kd"], env=environment, check=True)
    assert answer.read_text("utf-8").split("\n") == completed


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_code_for_a_shell_names_kd(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "_ARGCOMPLETE" in code and " kd" in code
    if shell == "bash":
        assert subprocess.run(["bash", "-n", "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["src"], "test.source"),
        (["dev", "trg"], "dev.target"),
        (["validation"], "dev.source"),
        (["lr"], "student.optimizer.learning_rate"),
        (["ckpt", "keep"], "checkpoint.keep"),
    ],
)
def test_settings_are_found_by_the_synonyms_of_their_words(words: list[str], key: str) -> None:
    assert key in [setting.key for setting in search(words, settings(RecipeConfig))]


def test_settings_name_the_configuration_that_their_values_belong_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "learning", "rate"]) == 0
    printed = capsys.readouterr().out
    assert "student.optimizer.learning_rate = 0.0007" in printed  # conf/student/base.yaml
    assert printed.endswith(
        "\nThese are the values of the base configuration; `kd settings recipe=NAME learning rate` shows a recipe's.\n"
    )
    assert main(["settings", "recipe=demo", "learning", "rate"]) == 0
    printed = capsys.readouterr().out
    assert "student.optimizer.learning_rate = 0.004\n" in printed  # conf/student/tiny_4_2.yaml
    assert "base configuration" not in printed
