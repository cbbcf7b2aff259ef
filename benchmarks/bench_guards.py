"""How many human translations trip a guard of selection, by guard and direction.

`python benchmarks/bench_guards.py en-de SOURCE TARGET`: parallel files, plain or compressed, one segment per line.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import islice
from pathlib import Path

from omegaconf import OmegaConf

from kd.corpora.guards import Guards
from kd.corpora.lines import open_lines
from kd.recipe import compose
from kd.recipe.schema import GuardsConfig


def tripped(config: GuardsConfig, languages: tuple[str, str], files: tuple[Path, Path], most: int) -> Counter[str]:
    """Count the pairs by the guard that they trip; those that trip none count as "passed"."""
    guards = Guards(config, *languages)
    pairs = zip(*map(open_lines, files), strict=True)
    return Counter(guards.check(*pair) or "passed" for pair in islice(pairs, most))


def main() -> None:
    """Print the shares of both directions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", nargs="?", help="two languages, such as en-de")
    parser.add_argument("files", type=Path, nargs="*", help="the source and the target")
    parser.add_argument("--most", type=int, default=100_000, help="pairs to read")
    options = parser.parse_args()
    if len(options.files) != 2:
        print("Left out: give a language pair and two parallel files to count the translations that trip guards.")
        return
    config = OmegaConf.to_object(compose.compose(compose.parse_request(["recipe=demo"])).guards)
    assert isinstance(config, GuardsConfig)
    source, _, target = options.pair.partition("-")
    directions = (((source, target), tuple(options.files)), ((target, source), tuple(reversed(options.files))))
    for languages, files in directions:
        counts = tripped(config, languages, files, options.most)
        total = counts.total()
        shares = ", ".join(f"{name} {count / total:.3%}" for name, count in sorted(counts.items()) if name != "passed")
        print(f"{'-'.join(languages)}: {total:,} pairs; {shares or 'none trips a guard'}")


if __name__ == "__main__":
    main()
