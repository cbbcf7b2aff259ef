"""Selection against `sacrebleu.sentence_bleu` called per hypothesis: speed on one core, speed-up by cores, memory.

8-best lists over ordinary detokenised text: each hypothesis is its reference with some words lost, doubled, replaced or
moved. What is timed is what the stage calls: lists of strings in, ranks and scores out, tokenisation included. Every
score is compared with sacreBLEU's, bit by bit.

    python benchmarks/bench_select.py
    python benchmarks/bench_select.py --references train.de.gz --lists 1000000 10000000
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ratio import alternate, heading  # beside this file

from kd.base.progress import Progress
from kd.corpora.ids import Pair
from kd.corpora.lines import open_lines
from kd.corpora.nbest import Hypothesis, NBestList, NBestShardWriter, write_nbest_index
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.writing import LineWriter
from kd.metrics.selection import select
from kd.metrics.sentence import Candidates, SentenceMetric, sentence_metric
from kd.pipeline.model import Artifact, Job
from kd.recipe.schema import GuardsConfig, SelectConfig
from kd.stages.select import Select

HYPOTHESES = 8
BATCH = 512  # lists, as in the stage
SHARDS = 4
SYLLABLES = re.findall(
    "[a-zäö]+", "an be cha der en fer ge hau in ker lich men nis on pro qui rei schwe tät und ver wie"
)
MARKS = [".", ".", ".", ",", ",", "!", "?", ":", ";", " –", '"', "..."]


def references(path: Path | None, seed: int) -> Iterator[str]:
    """Lines of a file over and over, or made sentences: a vocabulary of Zipf's law, numbers, punctuation."""
    if path is not None:
        while True:
            yield from (line for line in open_lines(path) if line.strip())
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(50_000)]
    words = [word.capitalize() if draw.random() < 0.3 else word for word in words]
    weights = [1 / (rank + 2.7) for rank in range(len(words))]
    while True:
        rest = iter(draw.choices(words, weights, k=20_000))
        while sentence := list(islice(rest, draw.randint(4, 32))):
            for place in range(len(sentence)):
                chance = draw.random()
                if chance < 0.06:
                    sentence[place] += draw.choice(MARKS)
                elif chance < 0.08:
                    sentence[place] = draw.choice(["12", "3,5", "2021", "10.000", "1990-2000", "§", "50%", "(a)"])
            yield " ".join(sentence) + draw.choice([".", ".", ".", "?", "!", ""])


def hypotheses(reference: str, draw: random.Random) -> list[str]:
    """Eight translations that are more or less the reference."""
    lists = []
    for _ in range(HYPOTHESES):
        words = reference.split(" ")
        for _ in range(draw.randint(0, 1 + len(words) // 3)):
            place = draw.randrange(len(words))
            change = draw.randrange(4)
            if change == 0 and len(words) > 1:
                del words[place]
            elif change == 1:
                words[place] = draw.choice(words)
            elif change == 2:
                words.insert(place, words[place])
            else:
                other = draw.randrange(len(words))
                words[place], words[other] = words[other], words[place]
        lists.append(" ".join(words))
    return lists


def make(path: Path | None, count: int, seed: int = 1) -> Iterator[Candidates]:
    """Lists with the model's scores."""
    draw = random.Random(seed)
    scores = [-0.1 * rank for rank in range(HYPOTHESES)]
    for reference in islice(references(path, seed), count):
        yield Candidates(hypotheses(reference, draw), reference, scores)


def choose(metric: SentenceMetric, lists: list[Candidates]) -> list[tuple[int, list[float]]]:
    """Ours: the chosen rank and all scores of each list."""
    chosen = []
    for first in range(0, len(lists), BATCH):
        batch = lists[first : first + BATCH]
        for item, scores in zip(batch, metric.scores(batch), strict=True):
            chosen.append((select(item.hypotheses, scores, item.model_scores, item.reference), scores))
    return chosen


def stock(lists: list[Candidates]) -> list[list[float]]:
    """sacreBLEU, one call a hypothesis; effective order is what it does unless told otherwise."""
    import sacrebleu

    return [[sacrebleu.sentence_bleu(text, [item.reference]).score for text in item.hypotheses] for item in lists]


def speed(path: Path | None, count: int, rounds: int) -> None:
    """On one core, in turn; each round has lists that nobody has seen, so that no cache is warm."""
    print(heading(f"select: {count:,} lists of {HYPOTHESES}, {path or 'made text'}, one core"))
    batches = [list(make(path, count, seed)) for seed in range(rounds + 1)]
    words = statistics.mean(len(item.reference.split()) for item in batches[0])
    print(f"  references of {words:.1f} words on average")
    ours_batches, stock_batches = iter(batches), iter(batches)
    ours_found, stock_found = [], []
    metric = sentence_metric(SelectConfig(metric="bleu", smoothing="exp", tokenizer="13a"))
    compared = alternate(
        lambda: ours_found.append(choose(metric, next(ours_batches))),
        lambda: stock_found.append(stock(next(stock_batches))),
        rounds,
    )
    equal = all([scores for _, scores in a] == b for a, b in zip(ours_found, stock_found, strict=True))
    print(f"  {compared.rates(count * HYPOTHESES, 'hypotheses')}: {compared.speedup()}")
    print(
        f"  {sum(map(len, stock_found)) * HYPOTHESES:,} scores: {'all equal to the last bit' if equal else 'DIFFERENT'}"
    )
    if not equal:
        sys.exit(1)


def write(folder: Path, path: Path | None, count: int) -> tuple[Path, Path]:
    """An n-best file and its references, as `kd select` reads them."""
    nbest, reference = folder / f"{count}.nbest.zst", folder / f"{count}.reference.zst"
    if not nbest.exists():
        made = list(
            make(path, min(count, 20_000))
        )  # repeated: writing ten millions would take longer than reading them
        with LineWriter(nbest, 1) as lists, LineWriter(reference, 1) as lines:
            for number in range(count):
                item = made[number % len(made)]
                lines.write(item.reference)
                for text, score in zip(item.hypotheses, item.model_scores, strict=True):
                    lists.write(f"{number} ||| {text} ||| F0= {score} ||| {score}")
    return nbest, reference


CODE = """
import sys, resource
from kd.cli import main
status = main(sys.argv[1:])
own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print("peak", own, children, file=sys.stderr)
sys.exit(status)
"""


def command(folder: Path, path: Path | None, count: int, threads: int) -> tuple[float, float, float]:
    """Seconds of `kd select`, and the peak memory of it and of its largest child, 2^20 bytes."""
    nbest, reference = write(folder, path, count)
    arguments = ["select", "--nbest", nbest, "--reference", reference, "--output", folder / f"out.{threads}.zst"]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments), "--threads", str(threads)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    own, children = (int(word) / 1024 for word in done.stderr.split("peak")[1].split())
    return seconds, own, children


def store(folder: Path, path: Path | None, count: int) -> tuple[Path, Path]:
    """A corpus and its n-best lists in SHARDS shards, as the stage before selection leaves them."""
    made = list(make(path, min(count, 20_000)))
    with CorpusWriter(folder / "corpus", ("en", "de"), -(-count // SHARDS), keep_groups=True) as writer:
        for number in range(count):
            writer.add(Pair(number, f"source {number}", made[number % len(made)].reference))
    for shard in Corpus(folder / "corpus").shards:
        with NBestShardWriter(folder / "lists", shard.name) as lists:
            for pair in shard.read():
                item = made[pair.id % len(made)]
                rows = zip(item.hypotheses, item.model_scores, strict=True)
                lists.add(NBestList(pair.id, [Hypothesis(text, {"F0": (score,)}, score, "-") for text, score in rows]))
    write_nbest_index(folder / "lists", {})
    return folder / "corpus", folder / "lists"


def stage(folder: Path, corpus: Path, lists: Path, threads: int) -> tuple[float, bytes]:
    """Seconds that the select stage takes for all shards, guards left out; and what it left, as a hash."""
    out = folder / "selected"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    off = dict.fromkeys(("empty", "copy", "length", "repetition", "language"), False)
    guards = GuardsConfig(
        **off, copy_words=4, max_ratio=3.0, ratio_slack=12, repeats=2, language_letters=40, language_probability=0.8
    )
    config = SelectConfig(metric="bleu", smoothing="exp", tokenizer="13a", guards=guards)
    inputs = {
        role: [Artifact(place, role, role, "all", "", None, {}, {})]
        for role, place in (("corpus", corpus), ("lists", lists))
    }
    job = Job("all", "select", config, {}, None, {}, inputs, {}, out, [], 1, threads, "cpu", {}, Progress(None))
    began = time.perf_counter()
    Select().run(job)
    seconds = time.perf_counter() - began
    return seconds, (out / "index.json").read_bytes()


def cores(folder: Path, path: Path | None, count: int, rounds: int) -> None:
    """The stage over shards, by one process and by two; reading, writing and the start of processes are in it."""
    print(heading(f"select stage: {count:,} lists of {HYPOTHESES} in {SHARDS} shards, one and two processes"))
    folders = store(folder, path, count)
    for threads in (1, 2):
        stage(folder, *folders, threads)
    ratios = []
    for _ in range(rounds):
        (one, left), (two, other) = (stage(folder, *folders, threads) for threads in (1, 2))
        if left != other:
            sys.exit("  the output depends on the number of processes")
        ratios.append(one / two)
        print(f"  one {count / one:,.0f} lists/s, two {count / two:,.0f} lists/s: {one / two:.2f} times")
    print(f"  median {statistics.median(ratios):.2f} times, equal output")


def memory(folder: Path, path: Path | None, counts: list[int]) -> None:
    """Peak memory of `kd select` over files of several sizes; at most 1.1 times that of the smallest is wanted."""
    print(heading("kd select: peak memory, one process"))
    smallest = None
    for count in counts:
        _, own, _ = command(folder, path, count, 1)
        smallest = smallest or own
        print(f"  {count:,} lists: {own:.0f} MiB, {own / smallest:.2f} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, help="text to make the lists from (default: made sentences)")
    parser.add_argument("--speed-lists", type=int, default=4000, help="of a round")
    parser.add_argument("--core-lists", type=int, default=120_000)
    parser.add_argument("--lists", type=int, nargs="+", default=[30_000, 300_000], help="sizes for memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "cores", "memory"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.only in (None, "speed"):
            speed(options.references, options.speed_lists, options.rounds)
        if options.only in (None, "cores"):
            cores(Path(name), options.references, options.core_lists, max(1, options.rounds - 2))
        if options.only in (None, "memory"):
            memory(Path(name), options.references, options.lists)


if __name__ == "__main__":
    main()
