"""`kd container`: images with kd and all it runs with, for computers where nothing can be installed.

What the verbs do is in kd/container/; containers/README.md is about using them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """kd container build cpu                                 kd-cpu.sif, and its record kd-cpu.sif.json
  kd container exec cpu -- kd run recipe=demo            a command inside; without one, a shell
  kd run recipe=demo machine.container=kd-cpu.sif        every task of a run inside"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verbs and their options."""
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    verbs.add_parser("list", help="the definitions there are, and the images built here")

    build = verbs.add_parser("build", help="build an image and put its record beside it")
    build.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of a definition")
    build.add_argument("--base", metavar="IMAGE", help="begin with this instead: a folder or image here, or docker://…")
    build.add_argument("--output", type=Path, metavar="FILE", help="where to (default: kd-NAME.sif where you stand)")
    build.add_argument("--fakeroot", action="store_true", help="as root of the build alone (what non-root users get)")
    build.add_argument("--wheel", type=Path, metavar="FILE", help="kd's wheel (default: built from this checkout)")
    build.add_argument("--bind", action="append", default=[], metavar="OUT:IN", help="a folder that the build may read")
    build.epilog = "Words behind -- go to apptainer build: -- --mksquashfs-args '-comp zstd'"

    check = verbs.add_parser("check", help="parse a definition, lint its shell, verify its pins")
    check.add_argument("image", metavar="NAME", nargs="?", help="one (default: all)")

    enter = verbs.add_parser("exec", help="run a command in an image, or a shell")
    enter.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of an image")
    enter.add_argument("--bind", action="append", default=[], metavar="OUT[:IN]", help="a folder to have in there")
    enter.add_argument("--flag", action="append", default=[], metavar="NAME", help="an option of apptainer exec: nv …")
    enter.epilog = "The command stands behind --; without one it is a shell: kd container exec cpu -- kd --version"

    pin = verbs.add_parser("pin", help="ask the registry for the digest of the base, and write it down")
    pin.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of a definition")
    pin.add_argument("--tag", metavar="IMAGE:TAG", help="another base than the definition has")
    pin.epilog = "Words behind -- go to the program that asks: -- --tls-verify=false"


def run(options: argparse.Namespace) -> int:
    """Does what the verb says; returns the exit status."""
    from kd.container import verbs

    return verbs.VERBS[options.verb](options)
