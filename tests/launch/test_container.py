"""The command line that runs a task inside an image; tests/system tries it with a real runtime."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.launch import container
from kd.pipeline.store import Store
from tests.launch.chain import Chain

ARGV = [sys.executable, "-P", "-m", "kd", "task"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this computer needs to reach a network."""
    monkeypatch.setattr(container, "_PIP_SETTINGS", ())
    for name in container._CERTIFICATES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of an image, and a PATH with a program called apptainer."""
    program = tmp_path / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    path = tmp_path / "kd.sif"
    path.write_bytes(b"an image")
    return path


def values(argv: list[str], option: str) -> list[str]:
    """What follows an option, each time it stands there."""
    return [argv[index + 1] for index, word in enumerate(argv) if word == option]


def test_a_machine_without_an_image_changes_nothing() -> None:
    assert container.wrap({"container": None}, ARGV, binds={"/data": "/data"}) == ARGV


def test_the_images_python_takes_the_place_of_this_one(image: Path) -> None:
    wrapped = container.wrap({"container": str(image)}, ARGV, binds={})
    assert wrapped[:3] == ["apptainer", "--quiet", "exec"]
    assert wrapped[wrapped.index(str(image)) :] == [str(image), "python", "-P", "-m", "kd", "task"]
    other = container.wrap({"container": str(image)}, ["sacrebleu", "--help"], binds={})
    assert other[-2:] == ["sacrebleu", "--help"]


def test_flags_binds_and_environment(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    machine = {
        "container": str(image),
        "container_flags": {"--nv": True, "userns": True, "--rocm": False},
        "binds": {"/scratch/me": "/scratch"},
    }
    wrapped = container.wrap(machine, ARGV, binds={str(tmp_path): str(tmp_path)}, environment={"NUMBA_CACHE_DIR": "/c"})
    assert {"--nv", "--userns"} <= set(wrapped)
    assert "--rocm" not in wrapped
    assert values(wrapped, "--bind") == ["/scratch/me:/scratch", str(tmp_path)]
    assert values(wrapped, "--pwd") == [str(tmp_path)]
    # Neither the host's packages nor those of the user's home get in.
    assert {"PYTHONPATH=", "PYTHONNOUSERSITE=1", "NUMBA_CACHE_DIR=/c"} <= set(values(wrapped, "--env"))


def test_what_cannot_be_bound_is_refused(image: Path) -> None:
    with pytest.raises(UserError, match="a:b cannot be bound"):
        container.wrap({"container": str(image)}, ARGV, binds={"/data/a:b": "/data/a:b"})


def test_a_missing_image_or_runtime_is_a_sentence(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no\.sif, which does not exist"):
        container.wrap({"container": str(tmp_path / "no.sif")}, ARGV, binds={})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="Neither apptainer nor singularity is on PATH"):
        container.wrap({"container": str(image)}, ARGV, binds={})
    # A login node without it, whose compute nodes get it by a module.
    modules = {"container": str(image), "modules": {"singularityce/4.1": True}}
    assert container.wrap(modules, ARGV, binds={})[0] == "singularity"


def test_a_login_node_without_a_runtime_collects_outside_the_image(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LuxProvide's documentation: Apptainer is a module, and modules exist on compute nodes alone."""
    chain = Chain(tmp_path, {"name": "fetch"})
    task = next(chain.plan.tasks())
    machine = {"container": str(image), "modules": {"Apptainer/1.2.4-GCCcore-12.3.0": True}}
    slurm = {"machine": machine, "launcher": {"kind": "slurm"}}
    inside = container.Commands(slurm, chain.run.folder, chain.store)
    assert inside.here(task, "hash", tmp_path)[0] == "apptainer"
    monkeypatch.setenv("PATH", str(tmp_path))
    outside = container.Commands(slurm, chain.run.folder, chain.store)
    assert outside(task, "hash", tmp_path)[0] == "apptainer"  # in the job, after `module load`
    assert outside.here(task, "hash", tmp_path)[0] == sys.executable
    # With the local launcher, everything runs here: the module would have to be loaded already.
    with pytest.raises(UserError, match="Neither apptainer nor singularity is on PATH"):
        container.Commands({**slurm, "launcher": {"kind": "local"}}, chain.run.folder, chain.store)


def test_certificates_and_pips_settings_are_those_of_out_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, bundle, settings = tmp_path / "here", tmp_path / "etc" / "bundle.crt", tmp_path / "etc" / "pip.conf"
    here.mkdir()
    bundle.parent.mkdir()
    bundle.touch()
    settings.touch()
    monkeypatch.chdir(here)
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr(container, "_PIP_SETTINGS", (str(settings), str(tmp_path / "none")))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "gone.crt"))
    assert container.binds({}) == {str(path): str(path) for path in (bundle, settings, here)}


def test_binds_are_the_folders_of_all_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, corpus, scratch, models, linked = (tmp_path / name for name in ("here", "corpus", "tmp", "models", "linked"))
    for folder in (here, corpus / "sub", scratch, models):
        folder.mkdir(parents=True)
    linked.symlink_to(models)
    (corpus / "a.en").write_text("a\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("TMPDIR", str(scratch))
    config = {
        "corpus": {"root": str(corpus), "sources": {"x": {"source": f"{corpus}/sub/*.{{source}}", "licence": "/"}}},
        "given_models": {"root": str(linked)},
        "evaluate": {"comet": {"model": "/usr/share/models"}},
        "machine": {"container": "/image/kd.sif", "binds": {"/image": "/image"}},
        "pairs": {"en-de": {"source": None}},
    }
    bound = container.binds(config, here / "runs" / "not-yet", corpus / "a.en")
    assert bound == {str(path): str(path) for path in (here, corpus, scratch, models, linked)}


def test_a_runs_commands_say_which_image(image: Path, tmp_path: Path) -> None:
    config = {"machine": {"container": str(image)}, "corpus": {"root": str(tmp_path)}}
    commands = container.Commands(config, tmp_path / "run", Store(tmp_path / "store"))
    environment = values(commands.wrap(ARGV), "--env")
    assert f"KD_CONTAINER={image}" in environment
    # What `printf 'an image' | sha256sum` prints.
    digest = "a5df3fde7b200c3fa2791144c7e05c5c2bced4c6ad863d3a4cf76c972c1712f9"
    assert f"KD_CONTAINER_SHA256={digest}" in environment
    assert f"NUMBA_CACHE_DIR={tmp_path}/run/cache/numba" in environment
    assert container.Commands({"machine": {}}, tmp_path, Store(tmp_path / "store")).wrap(ARGV) == ARGV
