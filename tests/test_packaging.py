"""The wheel works from any folder, and the locks hold what pyproject.toml asks for."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import kd
from kd.base import resources

CHECKOUT = Path(__file__).resolve().parent.parent
LOCKS = CHECKOUT / "containers" / "locks"
FOLDERS = ("conf", "recipes", "containers")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kd's wheel, built from this checkout with the backend that is installed: no network, about a second."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def tracked(folder: str) -> set[str]:
    """The files of a top-level folder that a commit would hold: what git knows, and what it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {path for path in listed if (CHECKOUT / path).is_file()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_wheel_carries_every_file_of_the_folder(wheel: Path, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {
            name.removeprefix("kd/_data/") for name in archive.namelist() if name.startswith(f"kd/_data/{folder}/")
        }
    assert carried == tracked(folder)
    assert carried, f"{folder}/ is empty"


def test_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"kd", f"kd-{kd.__version__}.dist-info"}
    assert "kd/py.typed" in names
    assert f"kd-{kd.__version__}.dist-info/licenses/LICENSE" in names


def test_installed_kd_finds_its_folders_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, capture_output=True)
    code = f"from kd.base import resources\nfor name in {FOLDERS}: print(resources.folder(name))"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert [Path(line) for line in done.stdout.splitlines()] == [site / "kd" / "_data" / name for name in FOLDERS]
    assert os.access(site / "kd" / "_data" / "containers" / "install.sh", os.X_OK)


@pytest.mark.parametrize("folder", FOLDERS)
def test_checkout_uses_its_own_folders(folder: Any) -> None:
    assert resources.folder(folder) == CHECKOUT / folder


def test_missing_folder_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "kd")
    with pytest.raises(FileNotFoundError, match="conf/ is neither"):
        resources.folder("conf")


def pins(*names: str) -> dict[str, str]:
    """Package to version, of the locks named."""
    lines = [line for name in names for line in (LOCKS / name).read_text().split("\n")]
    pairs = [line.removesuffix(" \\").split("==") for line in lines if line and line[0] not in "# "]
    return {canonicalize_name(package): version for package, version in pairs}


def test_locks_hold_every_requirement_in_its_range() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    run, tools = pins("cpu.txt"), pins("cpu.txt", "tools.txt")
    for locked, stated in (
        (run, project["project"]["dependencies"] + project["build-system"]["requires"]),
        (run, extras["train"] + extras["comet"] + extras["ja"] + extras["ko"]),
        (tools, extras["test"] + extras["lint"] + extras["docs"]),
    ):
        for requirement in map(Requirement, stated):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is in no lock: make lock"
            assert requirement.specifier.contains(version), f"the lock has {requirement.name} {version}: make lock"


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda lock: lock.name)
def test_every_entry_of_a_lock_has_hashes(lock: Path) -> None:
    entries = re.split(r"^(?=[^ #\n])", lock.read_text(), flags=re.M)[1:]
    assert entries
    assert [entry for entry in entries if not re.search(r"^    --hash=sha256:[0-9a-f]{64}\b", entry, re.M)] == []


def test_locks_name_exact_versions_that_install_from_any_index() -> None:
    for name, version in pins("cpu.txt", "tools.txt", "fairseq.txt").items():
        assert "+" not in version, f"{name}: a local version is found in one index alone"
        # (nvidia-ml-py only asks a driver, where there is one.)
        assert not name.startswith(("nvidia-cu", "nvidia-nccl", "triton")), f"{name} does not belong into the CPU lock"
    assert "fairseq" not in pins("cpu.txt"), "fairseq has a step of its own"


# --- containers/install.sh: what it says before it starts -------------------------------------------------------------


def run_install(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = CHECKOUT / "containers" / "install.sh"
    # By bash's own path: the tests below take everything out of PATH.
    command = ["/bin/bash", str(script), *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


SCRIPT_USES = {"awk", "cat", "cut", "df", "dirname", "g++", "grep", "ls", "make", "sed", "sha256sum"}


def tools_without(folder: Path, *absent: str) -> str:
    """A PATH that has what the script itself uses, Python and the compilers, but for the programs named."""
    folder.mkdir()
    for program in SCRIPT_USES - set(absent):
        for place in os.environ["PATH"].split(os.pathsep):
            if (found := Path(place) / program).exists():
                (folder / program).symlink_to(found)
                break
    if "python" not in absent:
        (folder / "python3.11").symlink_to(getattr(sys, "_base_executable", sys.executable))
    return str(folder)


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ("g++", "g++ is missing"),
        ("make", "make is missing"),
        ("python", "Python 3.11 or 3.12 is missing"),
    ],
)
def test_missing_prerequisite_is_one_sentence(tmp_path: Path, absent: str, sentence: str) -> None:
    path = tools_without(tmp_path / "bin", absent)
    done = run_install(str(tmp_path / "venv"), PATH=path, PYTHON="")
    assert done.returncode == 2
    assert done.stderr.startswith(f"install.sh: {sentence}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_unfit_interpreter_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18\n[ "$2" = "" ]\n')
    old.chmod(0o755)
    done = run_install(str(tmp_path / "venv"), PYTHON=str(old))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"PYTHON={old} is Python 3.9.18" in done.stderr


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "venv" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    done = run_install(str(mine.parent), PYTHON=getattr(sys, "_base_executable", sys.executable))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was not made by this script" in done.stderr
    assert mine.read_text() == "precious"


def test_unknown_variant_lists_those_there_are(tmp_path: Path) -> None:
    done = run_install(str(tmp_path / "venv"), "tpu")
    assert done.returncode == 2
    assert "'tpu'" in done.stderr
    assert "cpu" in done.stderr


# --- the wheel alone: evaluate, select, translate ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with kd's wheel and its dependencies, without any extra: no torch, no fairseq, no Hydra."""
    folder = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    versions = folder / "versions.txt"
    versions.write_text("".join(f"{name}=={version}\n" for name, version in pins("cpu.txt").items()))
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-c", str(versions), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def run_light(light: Path, folder: Path, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(light / "kd"), *words], cwd=folder, input=text, capture_output=True, text=True)


def test_the_wheel_alone_has_none_of_the_packages_for_training(light: Path) -> None:
    listed = subprocess.run([str(light / "pip"), "list", "--format=freeze"], capture_output=True, text=True, check=True)
    names = {canonicalize_name(line.partition("==")[0]) for line in listed.stdout.split()}
    assert {"ctranslate2", "sacrebleu", "sentencepiece"} <= names
    assert not names & {"torch", "fairseq", "hydra-core", "omegaconf", "transformers", "unbabel-comet"}


def test_the_wheel_alone_translates(light: Path, tmp_path: Path, trained: Any) -> None:
    from kd.engines.ctranslate2 import export
    from kd.models.description import Languages, Original

    export(trained.folder, tmp_path / "model", "float32", Original(Languages(("de",), ("en",))))
    expected = list(kd.Translator(tmp_path / "model", threads=1).translate(["eins zwei drei."]))
    done = run_light(light, tmp_path, "translate", "--model", "model", "--threads", "1", text="eins zwei drei.\n")
    assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr


def test_the_wheel_alone_evaluates_and_selects(light: Path, tmp_path: Path) -> None:
    (tmp_path / "gold").write_text("a b c d e\nthe house is small\n")
    (tmp_path / "lists").write_text(
        "0 ||| a b ||| F0= -1 ||| -1\n0 ||| a b c d e ||| F0= -2 ||| -2\n"
        "1 ||| the house is small ||| F0= -1 ||| -1\n1 ||| a house ||| F0= -2 ||| -2\n"
    )
    done = run_light(light, tmp_path, "select", "--nbest", "lists", "--reference", "gold", "--output", "chosen")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "chosen").read_text() == (tmp_path / "gold").read_text()
    done = run_light(light, tmp_path, "evaluate", "--reference", "gold", "--hypothesis", "chosen")
    assert done.returncode == 0, done.stderr
    assert "100.0" in done.stdout


def test_a_command_that_needs_more_packages_names_them(light: Path, tmp_path: Path) -> None:
    done = run_light(light, tmp_path, "run", "recipe=demo")
    assert done.returncode == 2
    assert "pip install 'kd[train]'" in done.stderr and "Traceback" not in done.stderr
