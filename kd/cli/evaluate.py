"""Declare the options of `kd evaluate`, which scores any files without a recipe.

`evaluate_files.py`, which does the work, is imported when the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = """kd evaluate --reference test.de --hypothesis teacher.de student.de --baseline teacher.de --latex table.tex

  Files are plain UTF-8 text, one segment per line, or compressed (.gz .zst .xz .bz2). Windows line ends and a byte
  order mark at the start are not scored. Options of sacreBLEU work too:
    kd evaluate a.de b.de -i system.de other.de -m bleu chrf -l en-de --paired-bs
  With COMET, from a folder that holds checkpoints/model.ckpt and hparams.yaml, or by name if there is a network:
    kd evaluate --source s.en --reference r.de --hypothesis a.de --metrics bleu chrf comet --comet-model FOLDER"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _add_files(parser.add_argument_group("files"))
    _add_scores(parser.add_argument_group("scores"))
    _add_comet(parser.add_argument_group("COMET"))
    _add_significance(parser.add_argument_group("intervals and significance"))
    _add_output(parser.add_argument_group("output"))


def run(options: argparse.Namespace) -> int:
    """Score the files; returns the exit status."""
    from kd.cli.evaluate_files import evaluate

    return evaluate(options)


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("refs", nargs="*", type=Path, metavar="REFERENCE", help="references, like --reference")
    group.add_argument("--source", type=Path, metavar="S", help="source text; COMET and some counts need it")
    group.add_argument("--reference", nargs="+", type=Path, default=[], metavar="R", help="one or several references")
    group.add_argument("--hypothesis", "-i", "--input", nargs="+", required=True, metavar="[NAME=]H",
                       help="the systems' detokenised outputs")  # fmt: skip
    group.add_argument("--test-set", "-t", metavar="NAME",
                       help="source and references of sacreBLEU's test set, such as wmt21/C")  # fmt: skip
    group.add_argument("--language-pair", "-l", metavar="SRC-TGT",
                       help="such as en-de; chooses BLEU's tokeniser; --test-set needs it")  # fmt: skip
    group.add_argument("--language", metavar="CODE", help="target language: chooses BLEU's tokeniser (zh, ja, ko); "
                       "with it, --weaknesses counts outputs in another language")  # fmt: skip


def _add_scores(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--metrics", "-m", nargs="+", metavar="M", help="bleu, chrf, chrf++, ter, comet (default: bleu "
                       "chrf, and comet with --comet-model)")  # fmt: skip
    group.add_argument("--tokenize", "-tok", metavar="NAME",
                       help="BLEU's tokeniser by sacreBLEU's name (default: by language, 13a)")  # fmt: skip


def _add_comet(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--comet-model", nargs="+", default=[], metavar="PATH|NAME",
                       help="model folders, or names such as wmt22-comet-da; reference-free models too")  # fmt: skip
    group.add_argument("--comet-references", choices=["mean", "max", "first"], default="mean",
                       help="how scores with each of several references are combined (default: mean)")  # fmt: skip
    group.add_argument("--comet-batch", type=int, default=16, metavar="N", help="segments per batch (default: 16)")
    group.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto",
                       help="device for COMET (default: a GPU if there is one)")  # fmt: skip
    group.add_argument("--cache", type=Path, metavar="FOLDER",
                       help="folder for segments' COMET scores (default: the user's cache)")  # fmt: skip
    group.add_argument("--no-cache", action="store_true", help="score every segment again and keep no scores")


def _add_significance(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--baseline", metavar="A",
                       help="the hypothesis that the others are tested against; without it, no tests")  # fmt: skip
    group.add_argument("--test", choices=["bootstrap", "randomisation"], default="bootstrap",
                       help="paired test of sacreBLEU's metrics (default: bootstrap)")  # fmt: skip
    group.add_argument("--resamples", "--paired-bs-n", type=int, default=1000, metavar="N",
                       help="resamplings of the bootstrap (default: 1000); 0: no intervals, no tests")  # fmt: skip
    group.add_argument("--trials", "--paired-ar-n", type=int, default=10000, metavar="N",
                       help="trials of the randomisation (default: 10000)")  # fmt: skip
    group.add_argument("--paired-bs", dest="paired", action="store_const", const="bootstrap",
                       help="test against the first hypothesis by bootstrap, as sacreBLEU does")  # fmt: skip
    group.add_argument("--paired-ar", dest="paired", action="store_const", const="randomisation",
                       help="test against the first hypothesis by approximate randomisation")  # fmt: skip
    group.add_argument("--seed", type=int, default=12345, metavar="N",
                       help="seed of the resampling (default: 12345, as in sacreBLEU)")  # fmt: skip
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="processes for the paired test (default: 1)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    for name, what in [("json", "the scores, unrounded, as a list of objects"), ("markdown", "a Markdown table"),
                       ("latex", "a LaTeX table (booktabs; a dagger for p < 0.05)")]:  # fmt: skip
        group.add_argument(f"--{name}", metavar="OUT",
                           help=f"write {what}; - for standard output, which then has no other table")  # fmt: skip
    group.add_argument("--weaknesses", action="store_true",
                       help="count faults; score by length and word frequency; list typical n-grams")  # fmt: skip
    group.add_argument("--training-text", type=Path, metavar="T",
                       help="target text of the training, for word frequencies (default: the reference)")  # fmt: skip
    group.add_argument("--worst", type=int, default=0, metavar="N",
                       help="show the N segments in which each system is furthest behind the baseline")  # fmt: skip
    group.add_argument("--segments", type=Path, metavar="OUT", help="write scores of segments: .tsv, or JSON lines")
    group.add_argument(
        "--details", type=Path, metavar="OUT", help="write the output of --weaknesses and --worst as JSON"
    )
