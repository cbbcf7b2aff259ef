"""An environment with the packages of kd's extras, beside kd's own, which shall not have them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from kd.container import locks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def with_extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has all that this one has and, installed by pip, kd's extras.

    fairseq imports wandb where it finds it, which takes a second in each training: so it is not among the tools.
    """
    folder = tmp_path_factory.mktemp("extras")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here = sysconfig.get_path("purelib")
    there = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}, scheme="posix_prefix")
    Path(there, "beside.pth").write_text(f"{here}\n")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    # Versions alone: with hashes among the constraints, pip wants one for every package.
    versions = folder / "versions.txt"
    locked = locks.pins(ROOT / "containers" / "locks" / "cpu.txt")
    versions.write_text("".join(f"{name}=={version}\n" for name, version in locked.items()))
    subprocess.run([*pip, "install", "-q", "-c", str(versions), *extras["wandb"], *extras["mlflow"]], check=True)
    return python
