"""Imports within kd point one way, as docs/development.md draws them; there is no circle."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

from kd.stages import KINDS

ROOT = Path(__file__).parents[1]
BELOW_STAGES = {"base", "schema", "pipeline", "models", "tracking", "corpora", "metrics", "engines", "report"}
# Package -> the packages that it may import. `schema` is kd/recipe/schema: the typed settings of all kinds.
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "schema": {"base"},
    "pipeline": {"base"},
    "models": {"base", "schema", "pipeline"},
    "tracking": {"base", "pipeline"},
    "corpora": {"base", "schema", "models"},
    "metrics": {"base", "schema", "models", "corpora"},
    "engines": {"base", "schema", "pipeline", "models", "corpora"},
    "report": {"base", "schema", "pipeline", "models", "corpora", "metrics"},
    "stages": BELOW_STAGES,
    "recipe": {"base", "schema", "pipeline", "models", "corpora", "stages"},
    "launch": {"base", "schema", "pipeline"},
    "container": {"base", "engines", "launch"},
    "run": BELOW_STAGES | {"stages", "recipe", "launch", "container"},
    "planning": BELOW_STAGES | {"stages", "recipe", "launch", "run"},
    "doctor": {"base", "schema", "models", "engines", "report", "recipe", "launch"},
    "serve": BELOW_STAGES,
    "cli": BELOW_STAGES | {"stages", "recipe", "launch", "container", "run", "planning", "doctor", "serve"},
    "": {"base", "cli", "engines", "metrics"},  # kd/__init__.py and kd/__main__.py
}
# Imports that still point the wrong way. Remove an entry with its import; never add one.
PRESENT: set[tuple[str, str]] = set()


def module_of(path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    """Return the key of `ALLOWED` for a module."""
    parts = module.split(".")
    if parts[:3] == ["kd", "recipe", "schema"]:
        return "schema"
    return parts[1] if len(parts) > 1 and (ROOT / "kd" / parts[1]).is_dir() else ""


@functools.cache
def imports() -> list[tuple[str, str]]:
    """Return (module, imported module) for every import of kd or another library, lazy ones included."""
    return list(_imports())


def _imports() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "kd").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module_of(path), alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{path}: relative imports hide where they point"
                yield module_of(path), node.module
                yield from ((module_of(path), f"{node.module}.{alias.name}") for alias in node.names)


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of kd, and no function or class in one."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_imports_point_one_way() -> None:
    wrong = {
        (module, imported)
        for module, imported in imports()
        if imported.startswith("kd.")
        and is_module(imported)
        and package_of(imported) not in ALLOWED[package_of(module)] | {package_of(module)}
    }
    assert not wrong - PRESENT


def test_the_allowed_imports_have_no_circle() -> None:
    graphlib.TopologicalSorter(ALLOWED).prepare()  # raises CycleError


def test_modules_import_no_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, imported in imports():
        if imported.startswith("kd.") and is_module(imported) and not (ROOT.joinpath(*imported.split("."))).is_dir():
            graph.setdefault(module, set()).add(imported)
    graphlib.TopologicalSorter(graph).prepare()


def test_no_stage_imports_a_stage() -> None:
    kinds = {name.partition(":")[0] for name in KINDS.values()}
    assert not [pair for pair in imports() if pair[0] in kinds and pair[1] in kinds - {pair[0]}]


def test_engines_depend_on_no_jobs_and_no_artifacts() -> None:
    used = {name for module, name in imports() if package_of(module) == "engines" and name.startswith("kd.pipeline.")}
    assert {name for name in used if is_module(name)} <= {"kd.pipeline.forecast"}


def test_fairseq_is_imported_in_one_package() -> None:
    users = {module for module, imported in imports() if imported.split(".")[0] in ("fairseq", "fairseq_cli")}
    assert all(module.startswith("kd.engines.fairseq.") for module in users), users
