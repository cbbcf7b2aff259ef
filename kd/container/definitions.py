"""Find and read the definitions of images, by stage and section.

The format is Apptainer's, whose parser decides what is valid; this module reads the parts that checks need.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kd.base import resources
from kd.base.errors import UserError
from kd.base.text import unknown_name

SHELL_SECTIONS = ("pre", "setup", "post", "environment", "runscript", "startscript", "test", "apprun", "appenv",
                  "appinstall", "apptest")  # fmt: skip
_SECTION = re.compile(r"^%(\w+)\s*(.*)$")
_HEADER = re.compile(r"^(\w+):\s*(.*)$")
_ARGUMENT = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass
class Section:
    """A section of a stage: `%apprun sacrebleu` has the name apprun and the argument sacrebleu."""

    name: str
    argument: str
    line: int  # of its heading, from 1
    lines: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The heading, as in the file."""
        return f"%{self.name} {self.argument}".strip()


@dataclass
class Stage:
    """A stage: its header (Bootstrap, From, Stage) and its sections."""

    header: dict[str, str] = field(default_factory=dict)  # keys in lower case
    sections: list[Section] = field(default_factory=list)

    @property
    def arguments(self) -> dict[str, str]:
        """The default values of the arguments that `--build-arg` can set."""
        lines = [line.strip() for section in self.sections if section.name == "arguments" for line in section.lines]
        pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
        return {name.strip(): value.strip() for name, value in pairs}


@dataclass
class Definition:
    """A definition file."""

    path: Path
    stages: list[Stage]

    @property
    def name(self) -> str:
        """The short name: `cpu` for kd-cpu.def."""
        return self.path.stem.removeprefix("kd-")

    @property
    def lock(self) -> Path:
        """The lock file that pins its packages."""
        return self.path.parent / "locks" / f"{self.name}.txt"

    @property
    def base(self) -> str:
        """The base image of its stages, unless `--base` names another."""
        return self.stages[-1].arguments.get("BASE", "")

    def shell(self) -> list[Section]:
        """Return the sections that a shell runs, with the defaults of arguments filled in."""
        found = []
        for stage in self.stages:
            values = stage.arguments
            for section in stage.sections:
                if section.name in SHELL_SECTIONS:
                    lines = [_ARGUMENT.sub(lambda m, v=values: v.get(m[1], m[1]), line) for line in section.lines]  # type: ignore[misc]
                    found.append(Section(section.name, section.argument, section.line, lines))
        return found


def folder() -> Path:
    """Return the folder of the definitions."""
    return resources.folder("containers")


def names() -> list[str]:
    """Return the names of the definitions, such as cpu and cuda."""
    return sorted(path.stem.removeprefix("kd-") for path in folder().glob("kd-*.def"))


def find(name: str) -> Definition:
    """Return a definition by its name or the path of its file; raise UserError if it does not exist."""
    given = Path(name)
    if given.suffix == ".def":
        if not given.is_file():
            raise UserError(f"There is no definition at {given}.", f"kd has {', '.join(names())}.")
        return read(given)
    short = name.removeprefix("kd-")
    if short not in names():
        raise unknown_name("container", name, names())
    return read(folder() / f"kd-{short}.def")


def read(path: Path) -> Definition:
    """Read a definition; raise UserError if it has no Bootstrap line."""
    stages: list[Stage] = []
    section: Section | None = None
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        heading, header = _SECTION.match(line), _HEADER.match(line)
        if header and header[1].lower() == "bootstrap":
            stages.append(Stage())
            section = None
        if heading and stages:
            section = Section(heading[1], heading[2].strip(), number)
            stages[-1].sections.append(section)
        elif section is not None:
            section.lines.append(line)
        elif header and stages:
            stages[-1].header[header[1].lower()] = header[2].strip()
    if not stages:
        raise UserError(f"{path} is not a definition: it has no Bootstrap line.")
    return Definition(path, stages)
