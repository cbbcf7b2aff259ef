"""Declare the options of `kd select`, which selects from any n-best lists like the stage `select`.

`select_files.py` implements the command; it is imported when the command runs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

EXAMPLE = """kd select --nbest train.nbest.gz --reference train.de.gz --output selected.de.gz

  The list for line N of the reference (from 0) has the id N; its hypotheses follow each other, the best first:
    0 ||| ein Hund bellt ||| F0= -1.2 F1= -1.3 ||| -1.25       (Moses, Marian; features and score may be missing)
  Files are plain UTF-8 text or compressed (.gz .zst .xz .bz2). With external scores, one per hypothesis:
    kd select --nbest train.nbest --reference train.de --output selected.de --metric external --scores comet-qe.txt
  With a weighted mix of metrics, and a file with the rank and score of each choice:
    kd select --nbest n.zst --reference r.de --output s.de --metric mix --mix bleu=0.5 chrf=0.5 --ranks ranks.tsv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    files = parser.add_argument_group("files")
    files.add_argument(
        "--nbest", type=Path, required=True, metavar="FILE", help="n-best lists; - for standard input, plain text"
    )
    files.add_argument("--format", choices=["moses", "fairseq"], default="moses", help="format of --nbest: moses "
                       "(also Marian's) or fairseq-generate's, read into memory (default: moses)")  # fmt: skip
    files.add_argument("--reference", type=Path, required=True, metavar="FILE", help="human translations, one per line")
    files.add_argument("--output", type=Path, required=True, metavar="FILE",
                       help="file for the chosen hypotheses, one per line of the reference; .gz and .zst are "
                       "compressed; - for standard output")  # fmt: skip
    files.add_argument("--ranks", type=Path, metavar="FILE", help="write rank (from 0) and score of each choice")
    files.add_argument("--missing", choices=["refuse", "gold", "empty"], default="refuse",
                       help="for a line without a list: refuse the files (default), write the reference (gold), or an "
                       "empty line")  # fmt: skip
    files.add_argument("--as-is", action="store_true", help="accept hypotheses that look like sub-words")
    metric = parser.add_argument_group("metric")
    metric.add_argument("--metric", choices=["bleu", "chrf", "mbr_bleu", "mbr_chrf", "model", "external", "mix"],
                        default="bleu", help="default: bleu, sacreBLEU's sentence BLEU with effective order; mbr_…: "
                        "against the other hypotheses of the list, without the reference")  # fmt: skip
    metric.add_argument("--smoothing", default="exp", metavar="NAME", help="bleu's smoothing: exp, floor, add-k, none")
    metric.add_argument("--smooth-value", type=float, metavar="X",
                        help="value for floor and add-k (default: sacreBLEU's)")  # fmt: skip
    metric.add_argument("--tokenizer", metavar="NAME", help="bleu's tokeniser by sacreBLEU's name: 13a, intl, char, "
                        "zh, ja-mecab, flores200 … (default: the one for the language)")  # fmt: skip
    metric.add_argument("--language", metavar="CODE", help="language of the reference, for the tokeniser: de, "
                        "zh_Hans, jpn … (default: ja, ko, th or zh by the script of the reference, else one with "
                        "spaces)")  # fmt: skip
    metric.add_argument("--lowercase", action="store_true", help="ignore case in bleu and chrf")
    metric.add_argument("--word-order", type=int, default=0, metavar="N",
                        help="longest word n-gram of chrf; 2 makes it chrF++ (default: 0)")  # fmt: skip
    metric.add_argument("--mix", nargs="+", default=[], metavar="NAME=WEIGHT",
                        help="weights of mix: bleu=0.5 chrf=0.5 …")  # fmt: skip
    metric.add_argument("--scores", type=Path, metavar="FILE", help="scores of external, one per line of --nbest")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                        else os.cpu_count() or 1, metavar="N", help="processes (default: all cores)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Select; return the exit status."""
    from kd.cli.select_files import select

    return select(options)
