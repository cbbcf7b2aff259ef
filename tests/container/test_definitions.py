"""The definitions that come with kd: sound shell, and no drift between them, their locks and pyproject.toml."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.container import checking, definitions, selftest

NAMES = ("cpu", "cuda", "rocm")
LOCKS = Path(__file__).parents[2] / "containers" / "locks"


def lock(name: str) -> dict[str, str]:
    """Package -> version."""
    lines = (LOCKS / f"{name}.txt").read_text("utf-8").split("\n")
    return dict(line.removesuffix(" \\").split("==") for line in lines if line and line[0] not in "# ")


def test_there_is_one_for_each_lock() -> None:
    assert tuple(definitions.names()) == NAMES
    assert {path.stem for path in LOCKS.glob("*.in")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_installs_and_tests_its_own_lock_on_one_base(name: str) -> None:
    definition = definitions.find(name)
    text = definition.path.read_text("utf-8")
    assert re.findall(r"install\.sh /opt/kd (\w+) ", text) == [name]
    assert re.findall(r"kd\.container\.selftest (\w+)", text) == [name]
    assert [stage.header["stage"] for stage in definition.stages] == ["build", "run"]
    assert {stage.arguments["BASE"] for stage in definition.stages} == {definition.base}
    # The engines' libraries come from the lock alone: a version in a definition would be a second truth.
    assert "pip install" not in "".join(line for part in definition.shell() for line in part.lines)
    assert "==" not in text


def test_locks_of_all_variants_have_the_same_versions() -> None:
    cpu, cuda, rocm = map(lock, NAMES)
    assert {name: cuda.get(name) for name in cpu} == cpu, "containers/lock.sh cuda"
    assert all(re.match(r"nvidia-|cuda-|triton$", name) for name in cuda.keys() - cpu.keys())
    assert {**rocm, "torch": cpu["torch"]} == cpu, "containers/lock.sh rocm"
    assert "torch" not in rocm


@pytest.mark.parametrize("name", NAMES)
def test_the_image_checks_itself_against_what_its_definition_installs(name: str) -> None:
    fairseq = selftest.locked(name).pop("fairseq")
    assert fairseq == "0.12.2"
    assert {**lock(name), "fairseq": fairseq} == selftest.locked(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_shell_section_passes_shellcheck(name: str) -> None:
    shellcheck = checking.find_shellcheck()
    assert shellcheck is not None
    sections = definitions.find(name).shell()
    assert {"post", "environment", "runscript", "test", "apprun"} == {section.name for section in sections}
    assert [fault for section in sections for fault in checking.shell_faults(section, shellcheck)] == []


def test_shellcheck_speaks_of_the_definitions_lines(tmp_path: Path) -> None:
    path = tmp_path / "kd-bad.def"
    path.write_text("Bootstrap: docker\nFrom: x\n\n%post\n    set -eu\n    rm $HOME/{{ NAME }}\n%test\n    true\n")
    (post, _) = definitions.read(path).shell()
    (fault,) = checking.shell_faults(post, str(checking.find_shellcheck()))
    assert fault.startswith("line 6, %post: ")
    assert "SC2086" in fault


def test_every_variant_says_what_it_is() -> None:
    for name in NAMES:
        run = definitions.find(name).stages[-1]
        sections = {section.title: "\n".join(section.lines) for section in run.sections}
        assert sections["%runscript"].strip() == 'exec kd "$@"'
        for program in ("fairseq-train", "fairseq-generate", "sacrebleu", "comet-score"):
            assert f"%apprun {program}" in sections
        for label in ("version", "revision", "licenses"):
            assert f"org.opencontainers.image.{label} " in sections["%labels"]
        assert sections["%help"].count("apptainer run ") == 3


def test_a_loose_pin_and_two_bases_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # its parser has its say in tests/system
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "x.txt").write_text("numpy==1.26.4 \\\n    --hash=sha256:ab\nscipy>=1\nregex==2026.1\n")
    path = tmp_path / "kd-x.def"
    stage = "Bootstrap: docker\nFrom: {{ BASE }}\n%arguments\n    BASE=debian:12\n"
    path.write_text(stage + stage.replace("12", "13"))
    faults = [finding.what for finding in checking.check(definitions.read(path)) if finding.good is False]
    assert faults == [
        "its stages begin with different bases: debian:12, debian:13",
        "x.txt does not pin scipy>=1",
        "x.txt has no hash for regex==2026.1",
        "it does not install x.txt",
    ]


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"There is no container called lumi\. There are: cpu, cuda, rocm"):
        definitions.find("lumi")


def test_versions_that_differ_from_the_lock_are_named() -> None:
    from importlib.metadata import version

    numpy = version("numpy")
    assert selftest.wrong_versions({"numpy": numpy}) == []
    assert selftest.wrong_versions({"numpy": "0.1"}) == [f"numpy is {numpy}, and the lock has 0.1."]
    assert selftest.wrong_versions({"nopackage": "1"}) == ["nopackage is absent, and the lock has 1."]
    assert selftest.wrong_versions({"torch": version("torch").partition("+")[0]}) == [], sys.executable
