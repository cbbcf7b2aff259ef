"""Implement the verbs of `kd container`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd.base.text import duration
from kd.container import definitions, images
from kd.launch import container

# flag of the runtime -> device file that exists where the flag is useful
_DEVICES = {"nv": Path("/dev/nvidiactl"), "rocm": Path("/dev/kfd")}
_MARKS = {True: "ok     ", False: "FAULT  ", None: "note   "}


def show(_options: argparse.Namespace) -> int:
    """Implement `list`."""
    table = Table(box=None, header_style="bold")
    for column in ("name", "base", "packages", "image", "MB", "built", "sha256"):
        table.add_column(column, overflow="fold", justify="right" if column == "MB" else "left")
    for name in definitions.names():
        definition, image = definitions.find(name), images.default_image(name)
        record = images.read_record(image) if image.exists() else None
        built = (
            [f"{record.bytes / 1e6:,.0f}", record.created.replace("T", " ")[:16], record.sha256[:12]] if record else []
        )
        here = image.name if image.exists() else "not built"
        table.add_row(name, definition.base, definition.lock.name, here, *built)
    _console().print(table)
    return 0


def build(options: argparse.Namespace) -> int:
    """Implement `build`."""
    from kd.container.building import Request, build

    definition = definitions.find(options.image)
    request = Request(
        definition,
        options.output or images.default_image(definition.name),
        options.base,
        options.fakeroot,
        options.wheel,
        tuple(options.bind),
        tuple(options.behind),
    )
    console, began = Console(stderr=True, highlight=False), time.monotonic()
    record = build(request, lambda line: console.print(Text(f"{datetime.now():%H:%M:%S} {line}"), soft_wrap=True))
    took = duration(time.monotonic() - began)
    console.print(f"{request.image}: {record.bytes / 1e6:,.0f} MB in {took}, sha256 {record.sha256}", soft_wrap=True)
    return 0


def check(options: argparse.Namespace) -> int:
    """Implement `check`; return 1 if there is a fault."""
    from kd.container.checking import check

    faults = 0
    for name in [options.image] if options.image else definitions.names():
        definition = definitions.find(name)
        print(f"kd-{definition.name}.def")
        for finding in check(definition):
            print(f"  {_MARKS[finding.good]}{finding.what}")
            faults += finding.good is False
    return 1 if faults else 0


def enter(options: argparse.Namespace) -> int:
    """Implement `exec`: the runtime replaces this process, so the command gets its terminal and signals."""
    container.find_runtime()
    image = images.find(options.image)
    flags = dict.fromkeys(options.flag, True) or {name: True for name, file in _DEVICES.items() if file.exists()}
    bound = {out: inside or out for out, _, inside in (bind.partition(":") for bind in options.bind)}
    machine = {"container": str(image), "container_flags": flags}
    command = container.wrap(machine, options.behind or ["bash", "--norc"], binds={**container.binds({}), **bound})
    sys.stdout.flush()
    os.execvp(command[0], command)


def pin(options: argparse.Namespace) -> int:
    """Implement `pin`."""
    from kd.container.pinning import pin

    definition = definitions.find(options.image)
    found = pin(definition, options.tag, tuple(options.behind))
    print(f"{definition.path}: BASE={found.base}\n  resolved from {found.tag} by {found.command}")
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": show,
    "build": build,
    "check": check,
    "exec": enter,
    "pin": pin,
}


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 240  # whoever reads it through a pipe wants a line an image
    return console
