"""`kd container`: images with kd and its dependencies, for computers where software cannot be installed.

kd/container/ implements the verbs; containers/README.md explains their use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """kd container build cpu                                 kd-cpu.sif, and its record kd-cpu.sif.json
  kd container exec cpu -- kd run recipe=demo            a command inside; without one, a shell
  kd run recipe=demo machine.container=kd-cpu.sif        every task of a run inside"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their options."""
    verbs = parser.add_subparsers(required=True, metavar="VERB", dest="verb")
    verbs.add_parser("list", help="list the definitions, and the images built here")

    build = verbs.add_parser("build", help="build an image and put its record beside it")
    build.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of a definition")
    build.add_argument(
        "--base", metavar="IMAGE", help="start from this base instead: a local folder or image, or docker://…"
    )
    build.add_argument(
        "--output", type=Path, metavar="FILE", help="image to write (default: kd-NAME.sif in the working directory)"
    )
    build.add_argument(
        "--fakeroot", action="store_true", help="use fakeroot: be root inside the build only (for users without root)"
    )
    build.add_argument("--wheel", type=Path, metavar="FILE", help="kd's wheel (default: built from this checkout)")
    build.add_argument("--bind", action="append", default=[], metavar="OUT:IN", help="a folder that the build may read")
    build.epilog = "Arguments after -- go to apptainer build: -- --mksquashfs-args '-comp zstd'"

    check = verbs.add_parser("check", help="parse a definition, lint its shell, verify its pins")
    check.add_argument("image", metavar="NAME", nargs="?", help="the definition to check (default: all)")

    enter = verbs.add_parser("exec", help="run a command in an image, or a shell")
    enter.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of an image")
    enter.add_argument(
        "--bind", action="append", default=[], metavar="OUT[:IN]", help="a folder to make visible inside the image"
    )
    enter.add_argument(
        "--flag", action="append", default=[], metavar="NAME", help="an option of apptainer exec, such as nv"
    )
    enter.epilog = "The command follows --; without one a shell is started: kd container exec cpu -- kd --version"

    pin = verbs.add_parser(
        "pin", help="look up the digest of the base in the registry, and write it into the definition"
    )
    pin.add_argument("image", metavar="NAME", help="cpu, cuda, rocm, or the path of a definition")
    pin.add_argument("--tag", metavar="IMAGE:TAG", help="a base other than the definition's")
    pin.epilog = "Arguments after -- go to the program that queries the registry: -- --tls-verify=false"


def run(options: argparse.Namespace) -> int:
    """Run the verb; return the exit status."""
    from kd.container import verbs

    return verbs.VERBS[options.verb](options)
