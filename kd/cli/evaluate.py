"""Declares the options of `kd evaluate`, which scores any files as the stage evaluate does.

`evaluate_files.py` implements the command; it is imported when the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """kd evaluate --source test.en --reference test.de --hypothesis teacher.de student.de --baseline teacher.de

  Files are plain UTF-8 text, one segment per line, or compressed (.gz .zst .xz .bz2). Carriage returns of Windows' line
  ends and a byte order mark at the start are not scored. Several references:
    kd evaluate --reference a.de b.de --hypothesis system.de
  With COMET, from a folder that holds checkpoints/model.ckpt and hparams.yaml, or by name where there is a network:
    kd evaluate --source s.en --reference r.de --hypothesis a.de --metrics bleu chrf comet --comet-model FOLDER"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    _about_files(parser.add_argument_group("files"))
    _about_scores(parser.add_argument_group("scores"))
    _about_comet(parser.add_argument_group("COMET"))
    _about_significance(parser.add_argument_group("intervals and significance"))
    _about_output(parser.add_argument_group("output"))


def run(options: argparse.Namespace) -> int:
    """Score the files; return the exit status."""
    from kd.cli.evaluate_files import evaluate

    return evaluate(options)


def _about_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--source", type=Path, metavar="S", help="source text, for COMET and --weaknesses")
    group.add_argument("--reference", nargs="+", type=Path, default=[], metavar="R", help="one or several references")
    group.add_argument(
        "--hypothesis", nargs="+", required=True, metavar="[NAME=]H", help="the systems' detokenised outputs"
    )
    group.add_argument(
        "--test-set", metavar="NAME", help="use source and references of a test set of sacreBLEU, such as wmt21/C"
    )
    group.add_argument(
        "--language-pair", metavar="SRC-TGT", help="language pair of --test-set and for --weaknesses, such as en-de"
    )
    group.add_argument("--language", metavar="CODE", help="target language: sets BLEU's tokeniser (zh, ja, ko); "
                       "--weaknesses counts output in other languages")  # fmt: skip


def _about_scores(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--metrics", nargs="+", metavar="M", help="bleu, chrf, chrf++, ter, comet (default: bleu chrf, "
                       "and comet with --comet-model)")  # fmt: skip
    group.add_argument(
        "--tokenize", metavar="NAME", help="BLEU's tokeniser by sacreBLEU's name (default: by language, 13a)"
    )


def _about_comet(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--comet-model", nargs="+", default=[], metavar="PATH|NAME",
                       help="model folders, or names such as wmt22-comet-da; also reference-free models")  # fmt: skip
    group.add_argument("--comet-references", choices=["mean", "max", "first"], default="mean",
                       help="how scores with several references are combined (default: mean)")  # fmt: skip
    group.add_argument("--comet-batch", type=int, default=16, metavar="N", help="segments per batch (default: 16)")
    group.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )
    group.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="cache of segments' COMET scores (default: the user's cache)"
    )
    group.add_argument("--no-cache", action="store_true", help="neither read nor write the cache")


def _about_significance(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--baseline", metavar="A", help="hypothesis that the others are tested against")
    group.add_argument("--test", choices=["bootstrap", "randomisation"], default="bootstrap",
                       help="paired test of sacreBLEU's metrics (default: bootstrap)")  # fmt: skip
    group.add_argument("--resamples", type=int, default=1000, metavar="N",
                       help="resampled test sets (default: 1000); 0: neither intervals nor tests")  # fmt: skip
    group.add_argument(
        "--trials", type=int, default=10000, metavar="N", help="trials of the randomisation (default: 10000)"
    )
    group.add_argument(
        "--seed", type=int, default=12345, metavar="N", help="seed of the resampling (default: 12345, as in sacreBLEU)"
    )
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="processes for the paired test (default: 1)")


def _about_output(group: argparse._ArgumentGroup) -> None:
    for name, what in [("json", "the unrounded scores as a JSON list"), ("markdown", "a Markdown table"),
                       ("latex", "a LaTeX table (booktabs)")]:  # fmt: skip
        group.add_argument(f"--{name}", metavar="OUT", help=f"write {what}; -: standard output, instead of the table")
    group.add_argument("--weaknesses", action="store_true", help="count typical errors, and score by length")
    group.add_argument("--worst", type=int, default=0, metavar="N",
                       help="show the N segments in which each system loses most against the baseline")  # fmt: skip
    group.add_argument("--segments", type=Path, metavar="OUT", help="write scores of segments: .tsv, or JSON lines")
    group.add_argument(
        "--details", type=Path, metavar="OUT", help="write the results of --weaknesses and --worst as JSON"
    )
