"""Encode against stock: sentencepiece to text files, then `fairseq-preprocess`, with the same number of workers.

Ours is what the stage runs, from compressed shards; stock reads plain text, with sentencepiece's own batch encoding
and threads (the usual scripts go line by line and are slower). Start-up counts for both; the files are compared.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ratio import alternate, heading
from text import pairs

from kd.corpora.heldout import write_heldout
from kd.corpora.ids import Origin
from kd.corpora.lines import open_aligned
from kd.corpora.shards import Corpus, CorpusWriter
from kd.corpora.writing import LineWriter

SHARD = 50_000  # pairs
SIDES = ("source", "target")

# Nothing is left out for its length, as by stock.
OURS = """
import sys
from pathlib import Path

def main(place, out, workers):
    from kd.recipe.schema import EncodeConfig
    from kd.pipeline.model import Artifact, Job
    from kd.base.progress import Progress
    from kd.stages.encode import Encode

    inputs = {role: [Artifact(place / role, "", role, "all", "", None, {}, {})] for role in Encode.roles}
    job = Job(
        name="all", stage="encode", config=EncodeConfig(max_pieces=10**6, folder_pairs=10**9), identity={},
        axis="xx-yy", axis_value={}, inputs=inputs, files={}, out=out, resumable_from=[], attempts=1, threads=workers,
        device="cpu", machine={}, progress=Progress(None),
    )
    out.mkdir()
    Encode().run(job)

if __name__ == "__main__":  # the workers import this file as well
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
"""

STOCK = """
import sys
from itertools import islice
from sentencepiece import SentencePieceProcessor

model, text, out, workers = *sys.argv[1:4], int(sys.argv[4])
processor = SentencePieceProcessor(model_file=model)
for side in ("source", "target"):
    with open(f"{text}.{side}", encoding="utf-8", newline="\\n") as lines, \\
            open(f"{out}.{side}", "w", encoding="utf-8", newline="\\n") as pieces:
        while batch := [line.rstrip("\\n") for line in islice(lines, 20_000)]:
            for sentence in processor.encode(batch, out_type=str, num_threads=workers):
                pieces.write(" ".join(sentence) + "\\n")
"""


def main() -> None:
    """Prepare the input, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200_000, help="of generated text, 20 words a sentence")
    parser.add_argument("--files", nargs=2, metavar=("SOURCE", "TARGET"), help="real text instead")
    parser.add_argument("--workers", type=int, default=2, help="of both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=16_000, help="pieces")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        text = open_aligned(options.files) if options.files else pairs(options.pairs, seed=1)
        count = prepare(place, text, options.vocabulary)
        comparison = alternate(
            lambda: ours(place, options.workers), lambda: stock(place, options.workers), options.rounds
        )
        names = [f"train.source-target.{side}.{suffix}" for side in SIDES for suffix in ("bin", "idx")]
        _, different, missing = filecmp.cmpfiles(place / "ours", place / "stock", names, shallow=False)
        print(heading(f"Encoding {count:,} pairs with {options.workers} workers"))
        print(f"  {comparison.rates(count, 'pairs')}")
        print(f"  ours is {comparison.speedup()} as fast")
        print(
            f"  files differ: {different + missing}" if different + missing else "  the files are equal, byte for byte"
        )
        sys.exit(bool(different or missing))


def prepare(place: Path, text: Iterable[tuple[str, ...]], size: int) -> int:
    """A corpus folder, the same as plain text, a dev set and a vocabulary; returns the number of pairs."""
    from kd.models import vocabulary
    from kd.recipe.schema import VocabularyConfig

    origin = Origin("xx-yy", "text")
    with (
        CorpusWriter(place / "corpus", ("xx", "yy"), SHARD, origins=[origin]) as writer,
        LineWriter(place / "text.source") as source,
        LineWriter(place / "text.target") as target,
    ):
        for pair in origin.number((row[0], row[1]) for row in text):
            writer.add(pair)
            source.write(pair.source)
            target.write(pair.target)
    write_heldout(place / "held_out", "xx-yy", {"dev": list(origin.number([("a", "b")]))})
    config = VocabularyConfig(
        size=size, model="unigram", character_coverage=1.0, normalization="identity", byte_fallback=True,
        split_digits=True, sample=100_000, seed=1,
    )  # fmt: skip
    sample = (side for pair in Corpus(place / "corpus").read() for side in (pair.source, pair.target))
    vocabulary.train(sample, place / "vocabulary", config)
    (place / "ours.py").write_text(OURS, "utf-8")
    (place / "stock.py").write_text(STOCK, "utf-8")
    return writer.pairs


def ours(place: Path, workers: int) -> None:
    """The stage, in a process of its own."""
    shutil.rmtree(place / "ours", ignore_errors=True)
    run(place / "ours.py", place, place / "ours", workers)


def stock(place: Path, workers: int) -> None:
    """What people do."""
    shutil.rmtree(place / "stock", ignore_errors=True)
    run(place / "stock.py", place / "vocabulary" / "vocabulary.model", place / "text", place / "pieces", workers)
    run(
        *("-m", "kd.engines.fairseq", "fairseq-preprocess", "--source-lang", "source", "--target-lang", "target"),
        *("--dataset-impl", "mmap", "--joined-dictionary", "--srcdict", place / "vocabulary" / "dict.txt"),
        *("--trainpref", place / "pieces", "--destdir", place / "stock", "--workers", workers),
    )


def run(*arguments: object) -> None:
    """A Python process, and nothing of its output unless it fails."""
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
