"""Implement `kd plan`: forecast jobs, GPU and core hours, time, disk and energy of a run, each with its source.

docs/plan.md explains the figures.
"""

from __future__ import annotations

import argparse
import json

EXAMPLE = "kd plan recipe=demo --probe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; the command also takes overrides of the recipe."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="recipe=NAME or a path, machine=NAME, any setting; assume.KEY=NUMBER for a value that was not measured",
    )
    parser.add_argument("--probe", action="store_true", help="measure each stage here first, in about a minute")
    parser.add_argument("--probe-text", action="store_true", help="measure only the stages that need no model")
    parser.add_argument("--markdown", action="store_true", help="print a page for an application for computing time")
    parser.add_argument("--json", action="store_true", help="print the whole forecast as JSON")


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from rich.console import Console

    from kd.planning import gather, page

    probing = "all" if options.probe else "text" if options.probe_text else None
    forecast = gather.forecast(options.overrides, probing=probing)
    if options.json:
        print(json.dumps(page.to_json(forecast), ensure_ascii=False, indent=1))
    elif options.markdown:
        print(page.markdown(forecast), end="")
    else:
        page.show(forecast, Console(highlight=False))
    return 0
