"""The leakage guard against the plain way of doing the same: normalising every sentence wholly and looking it up.

`python benchmarks/bench_leakage.py [--pairs 200000] [--held-out 10000]`; the text is generated.
"""

from __future__ import annotations

import argparse
import random
import unicodedata
from collections.abc import Iterator

from ratio import alternate, heading

from kd.corpora.heldout import HeldOutSet
from kd.corpora.ids import Pair
from kd.corpora.leakage import Guard, Leaks, keep_out


def generate(number: int, seed: int) -> Iterator[Pair]:
    """Sentences of 4 to 28 words of a made-up vocabulary, frequent ones more often; the target side with umlauts."""
    random_ = random.Random(seed)
    words = ["".join(random_.choices("abcdefghijklmnoprstuvwzäöüé", k=random_.randint(2, 10))) for _ in range(30_000)]
    plain = [word.encode("ascii", "ignore").decode() or "a" for word in words]
    for place in range(number):
        drawn = [int(random_.random() ** 3 * len(words)) for _ in range(4 + int(random_.random() ** 2 * 25))]
        source, target = (" ".join(side[word] for word in drawn).capitalize() + "." for side in (plain, words))
        yield Pair(place, source, target)


def plainly(text: str) -> str:
    """The usual way: NFKC, case folding, letters and digits."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def main() -> None:
    """Print pairs a second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--held-out", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    everything = list(generate(options.pairs + options.held_out, 1))
    test, train = everything[: options.held_out], everything[options.held_out :]
    held = HeldOutSet("en-de", "test", ("en", "de"), "source", False, "", test)
    guard = Guard([held], ("en", "de"), 5)
    known = [{plainly(pair.source) for pair in test}, {plainly(pair.target) for pair in test}]

    def ours() -> int:
        return sum(1 for _ in keep_out(train, guard, Leaks({}).add))

    def stock() -> int:
        return sum(plainly(pair.source) not in known[0] and plainly(pair.target) not in known[1] for pair in train)

    if ours() != stock():
        raise SystemExit("the two do not keep the same pairs")
    result = alternate(ours, stock, options.rounds)
    print(heading(f"Leakage guard, {options.pairs:,} pairs against {options.held_out:,} held-out ones, one thread"))
    print(result.rates(options.pairs, "pairs"))
    print(f"{result.speedup()} the speed of normalising everything")


if __name__ == "__main__":
    main()
