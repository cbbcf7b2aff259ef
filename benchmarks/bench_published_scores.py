"""BLEU and chrF of WMT21's English-German systems by `kd evaluate`, against the organisers' published scores.

`python benchmarks/bench_published_scores.py FOLDER`: a folder with files of the wmt21-news-systems release, plain or
compressed: newstest2021.en-de.ref.{A,C,D}.de, newstest2021.en-de.hyp.SYSTEM.de of one or more systems, and a table of
scores, published-scores.en-de.tsv, with the columns pair, system, id, is_constrained, metric and score.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

PREFIX = "newstest2021.en-de"
METRICS = {"bleu": "BLEU", "chrf": "chrF2"}
Scores = dict[tuple[str, str], float]  # (system, metric) -> score


def published(table: Path) -> dict[str, Scores]:
    """Read the organisers' scores, by reference: A, C, D or all."""
    found: dict[str, Scores] = {}
    for line in table.read_text("utf-8").removesuffix("\n").split("\n")[1:]:
        _, system, _, _, name, score = line.split("\t")
        metric, _, references = name.partition("-")
        found.setdefault(references, {})[system, METRICS[metric]] = float(score)
    return found


def evaluated(folder: Path, references: str, systems: list[str]) -> Scores:
    """Score the systems' files against one reference, or against A, C and D together."""
    names = "ACD" if references == "all" else references
    arguments = ["--reference", *(str(file(folder, f"ref.{name}")) for name in names)]
    arguments += ["--hypothesis", *(f"{system}={file(folder, f'hyp.{system}')}" for system in systems)]
    command = [sys.executable, "-m", "kd", "evaluate", *arguments, "--resamples", "0", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {(row["system"], row["metric"]): row["score"] for row in json.loads(done.stdout)}


def file(folder: Path, name: str) -> Path:
    """Find a file of the release."""
    found = sorted(folder.glob(f"{PREFIX}.{name}.de*"))
    if not found:
        raise SystemExit(f"{folder} has no {PREFIX}.{name}.de.")
    return found[0]


def main() -> None:
    """Print the largest difference for each reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the files of WMT21")
    folder = parser.parse_args().folder
    if folder is None:
        print("Left out: give the folder of WMT21's files to compare published scores.")
        return
    print("WMT21 English-German, our score minus the published one")
    for references, expected in sorted(published(folder / "published-scores.en-de.tsv").items()):
        found = evaluated(folder, references, sorted({system for system, _ in expected}))
        largest = max(abs(found[key] - expected[key]) for key in expected)
        print(f"reference {references}: {len(expected)} scores, largest difference {largest:.1e}")


if __name__ == "__main__":
    main()
