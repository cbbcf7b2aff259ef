"""Implement `kd scaling`: measure how a training scales with GPUs or nodes, by short trainings.

Print tokens per second, speed-up and parallel efficiency, and plot them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

EXAMPLE = "kd scaling recipe=demo devices=1,2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; the command also takes overrides of the recipe."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe=NAME; devices=1,2,4 (of one node) or nodes=1,2,4; stage=teacher; updates=40; any setting",
    )
    parser.add_argument(
        "--weak", action="store_true", help="keep the target tokens per device constant, not those per update"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from rich.console import Console

    from kd.planning import scaling
    from kd.recipe import compose

    wanted, overrides = scaling.parse_scaling(options.overrides)
    wanted = replace(wanted, weak=options.weak)
    points, queued, folder = scaling.measure(wanted, compose.parse_request(overrides))
    if points:
        scaling.show(wanted, points, Console(highlight=False))
    if len(points) > 1:
        scaling.plot(wanted, points, folder)
        print(f"Plot: {folder}/scaling.svg, scaling.png")
    if queued:
        numbers = ", ".join(map(str, queued))
        print(f"Not finished: {numbers} {wanted.unit}. Run the same command again when they have finished.")
    return 0
