"""`kd scaling`: what more GPUs or nodes bring to a training, measured by short ones.

Tokens a second, speed-up and parallel efficiency, as a table and a plot.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

EXAMPLE = "kd scaling recipe=demo devices=1,2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; overrides of the recipe stand beside them."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe=NAME; devices=1,2,4 (of one node) or nodes=1,2,4; stage=teacher; updates=40; any setting",
    )
    parser.add_argument("--weak", action="store_true", help="as many target tokens an update more as there are devices")


def run(options: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    from rich.console import Console

    from kd.planning import scaling
    from kd.recipe import compose

    question, overrides = scaling.take(options.overrides)
    question = replace(question, weak=options.weak)
    points, queued, folder = scaling.measure(question, compose.parse_request(overrides))
    if points:
        scaling.show(question, points, Console(highlight=False))
    if len(points) > 1:
        scaling.plot(question, points, folder)
        print(f"Plot: {folder}/scaling.svg, scaling.png")
    if queued:
        numbers = ", ".join(map(str, queued))
        print(f"Not done yet: {numbers} {question.unit}. The same command shows the table when they are.")
    return 0
