"""The tutorials of docs/: their files are written and their commands are typed as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from slurm_cluster import Cluster

from tests.messages import messages

pytestmark = pytest.mark.system

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
PAIRS = 2500
Typed = Callable[[str, Path], str]


@dataclass
class Command:
    """A command of a page, and the output below it; `…` stands for any text."""

    text: str
    output: list[str]


def files(page: str) -> Iterator[tuple[str, str]]:
    """Yield path and content of each YAML file of a page; its first line is a comment with the path."""
    for content in re.findall(r"^```yaml\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        yield content.partition("\n")[0].removeprefix("# "), content


def commands(page: str) -> Iterator[Command]:
    """Yield the commands of a page, the lines that begin with `$`."""
    lines = iter([*re.sub(r"\\\n +", "", page).split("\n"), ""])
    found: Command | None = None
    for line in lines:
        if line.startswith("    $ "):
            if found:
                yield found
            found = Command(line[6:], [])
        elif found and line.startswith("    "):
            found.output.append(line.strip())
        elif found:
            yield found
            found = None


def matches(expected: list[str], printed: str) -> bool:
    """Whether the expected lines occur in the output, in this order."""
    rest = iter(" ".join(line.split()) for line in printed.split("\n"))
    for line in expected:
        parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
        pattern = re.compile(r"\s*.*".join(parts) + (".*" if line.endswith("…") else ""))
        if line != "…" and not any(pattern.fullmatch(each.strip()) or pattern.match(each.strip()) for each in rest):
            return False
    return True


def follow(name: str, folder: Path, run: Typed) -> None:
    """Write the files of a page, type its commands, and compare the output."""
    page = (TUTORIALS / f"{name}.md").read_text("utf-8")
    for path, content in files(page):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, "utf-8")
    for command in commands(page):
        printed = run(command.text, folder)
        assert matches(command.output, printed), f"{command.text}\n{printed}"


def shell(text: str, folder: Path) -> str:
    """Run a command with the `kd` of this environment; return what it prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env={**os.environ, "PATH": path, "COLUMNS": "200"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return done.stdout


def corpus(folder: Path) -> Path:
    """Write the reader's two files: messages of a program and their German translations."""
    pairs = [pair for pair in messages("de") if len(pair[0].split()) < 12][:PAIRS]
    for side, lines in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (folder / f"corpus.{side}").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")
    return folder


def test_the_output_of_a_page_is_compared() -> None:
    page = "    $ kd a \\\n        b\n    … done    one …\n    …\n    two\n\n    $ kd c\n    text\n"
    first, second = commands(page)
    assert (first.text, second.text) == ("kd a b", "kd c")
    assert matches(first.output, "12:00 done    one in 3 s\nmore\ntwo\n")
    assert not matches(first.output, "12:00 done    one in 3 s\n")
    assert not matches(second.output, "another text\n")


def test_own_files_and_borrowed_teachers(tmp_path: Path) -> None:
    corpus(tmp_path)
    follow("own_files", tmp_path, shell)
    follow("given_teachers", tmp_path, shell)


@pytest.mark.xdist_group("slurm")
def test_cluster(slurm: Cluster, tmp_path: Path) -> None:
    corpus(tmp_path)
    recipe = dict(files((TUTORIALS / "own_files.md").read_text("utf-8")))["mine/recipe.yaml"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.yaml").write_text(recipe, "utf-8")

    def run(text: str, folder: Path) -> str:
        words = [sys.executable, "-m", "kd", *text.split()[1:]]
        done = slurm.cmd(*words, cwd=folder, environment={"COLUMNS": "200"})
        return done.stdout + done.stderr

    follow("cluster", tmp_path, run)
    slurm.wait_until(lambda: not slurm.jobs(), "all jobs are over", 300)
    assert (tmp_path / "runs" / "mine" / "clean.en-de" / "all" / "manifest.json").is_file()
