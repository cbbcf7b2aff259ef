"""Implement the command line of `kd bundle`."""

from __future__ import annotations

import argparse
from pathlib import Path

from kd.base.errors import UserError

EXAMPLE = "kd bundle recipe=demo upto=collect --output demo.tar"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; the command also takes overrides of the recipe."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe=NAME; upto=STAGE or stages=[a,b]: pack the finished artifacts of these stages; any setting",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the tar file to write")
    parser.add_argument("--variant", default="cpu", help="the lock whose wheels to pack: cpu (default) or cuda")
    parser.add_argument(
        "--without-wheels",
        action="store_true",
        help="pack no wheels, if kd is already installed on the target computer",
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="verify a bundle, and do nothing else")


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from kd.recipe import compose
    from kd.run import bundle

    if options.check is not None:
        return bundle.check(options.check)
    if options.output is None:
        raise UserError("kd bundle needs a file to write.", "Add --output FILE, or --check FILE to verify one.")
    variant = None if options.without_wheels else options.variant
    return bundle.bundle(compose.parse_request(options.overrides), options.output.absolute(), variant=variant)
