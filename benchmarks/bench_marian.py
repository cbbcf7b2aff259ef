"""A student as CTranslate2 int8 beside Marian's model of the same architecture, on the same CPU, in one run.

Marian is not needed otherwise. `pip install pymarian` puts it (Python 3.11, 1.12 was tried) into this environment or,
to keep this one as it is, into another, whose interpreter `--python` names:

    python -m venv marian && marian/bin/pip install pymarian
    python -m benchmarks.bench_marian --python marian/bin/python

Both models have random weights, so nothing is said of quality: Marian initialises its own, by a training of one update.
Sources all have the same number of pieces, and both write exactly as many: Marian's end of sentence is made impossible
and its length limited, CTranslate2 has a shortest and a longest length. Beam, batches, threads and vocabulary are the
same; cutting text into pieces is timed with both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.decode_models import SHAPES, prepare
from benchmarks.ratio import alternate, heading
from benchmarks.text import pairs, sentences

MARIANS = ("float32", "intgemm8", "packed16")
IMPOSSIBLE = -10_000.0

# Runs in the interpreter that has pymarian: translates the same file whenever it is told to.
SERVER = """
import json, sys
from pymarian import Translator
options, lines = json.load(open(sys.argv[1]))
translator = Translator(**options)
print("ready", flush=True)
for _ in sys.stdin:
    found = translator.translate(lines)
    print(json.dumps(found), flush=True)
"""


def main() -> None:
    """Build both models and time them in turn."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="kd-bench-marian-") as name:
        folder = Path(name)
        exported = student(folder, options)
        lines = sources(exported, options)
        print(heading("Student beside Marian"))
        encoder, decoder, width, ffn, heads = SHAPES[options.shape]
        print(
            f"{encoder}+{decoder} layers, width {width}, FFN {ffn}, {heads} heads, {options.vocabulary} pieces, "
            f"random weights; {len(lines)} sentences of {options.pieces} pieces in and out, "
            f"batches of {options.batch}, beam {options.beam}, {options.threads} thread(s)"
        )
        marians = {kind: marian(folder, exported, kind, lines, options) for kind in options.marian}
        for compute_type in options.ours:
            ours = translator(exported[compute_type], lines, compute_type, options)
            for kind, theirs in marians.items():
                found = alternate(ours, theirs, options.rounds)
                print(f"CTranslate2 {compute_type} is {found.speedup()} as fast as Marian {kind}: "
                      f"{found.rates(len(lines), 'sentences')}")  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--python", default=sys.executable, help="the interpreter that has pymarian (default: this one)")
    add("--shape", choices=list(SHAPES), default="student")
    add("--vocabulary", type=int, default=8000, help="pieces")
    add("--sentences", type=int, default=64)
    add("--pieces", type=int, default=24, help="of each source, and of each translation")
    add("--batch", type=int, default=16, help="sentences")
    add("--beam", type=int, default=4)
    add("--threads", type=int, default=1, help="batches at a time, each on one core")
    add("--rounds", type=int, default=5)
    add("--ours", nargs="+", default=["int8", "float32"], help="compute types of CTranslate2")
    add("--marian", nargs="+", choices=MARIANS, default=["intgemm8", "float32"], help="types of Marian's model")
    return parser.parse_args()


# --- ours ------------------------------------------------------------------------------------------------------------


def student(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """A fairseq model with random weights, exported."""
    from kd.engines.ctranslate2 import export
    from kd.models.description import Languages, Original

    text = list(pairs(20_000, 1))
    (model,) = prepare(folder, text, shape=options.shape, members=1, updates=0, vocabulary_size=options.vocabulary)
    exported = {}
    for compute_type in options.ours:
        exported[compute_type] = folder / compute_type
        export(model, exported[compute_type], compute_type, Original(Languages(("xa",), ("xb",))))
    return exported


def sources(exported: dict[str, Path], options: argparse.Namespace) -> list[str]:
    """Sentences that have exactly as many pieces as wanted."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(next(iter(exported.values())) / "vocabulary.model"))
    found: list[str] = []
    text = " ".join(sentences(options.sentences * 20, 1)).split()
    begin = 0
    for end in range(len(text)):
        pieces = len(processor.encode(" ".join(text[begin : end + 1])))
        if pieces == options.pieces:
            found.append(" ".join(text[begin : end + 1]))
        if pieces >= options.pieces:
            begin = end + 1
        if len(found) == options.sentences:
            return found
    raise SystemExit(f"Only {len(found)} sentences of {options.pieces} pieces were found; ask for fewer.")


def translator(folder: Path, lines: Sequence[str], compute_type: str, options: argparse.Namespace) -> Callable[[], Any]:
    """What translates all lines, each to the same length as Marian does."""
    import ctranslate2
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(folder / "vocabulary.model"))
    model = ctranslate2.Translator(
        str(folder / "model"), compute_type=compute_type, inter_threads=options.threads, intra_threads=1
    )
    length = options.pieces + 1  # Marian counts the source's end

    def run() -> list[str]:
        results = model.translate_batch(
            processor.encode(list(lines), out_type=str),
            beam_size=options.beam,
            max_batch_size=options.batch,
            min_decoding_length=length,
            max_decoding_length=length,
        )
        assert all(len(result.hypotheses[0]) == length for result in results)
        return [processor.decode(result.hypotheses[0]) for result in results]

    return run


# --- Marian ----------------------------------------------------------------------------------------------------------


def marian(
    folder: Path, exported: dict[str, Path], kind: str, lines: list[str], options: argparse.Namespace
) -> Callable[[], Any]:
    """What has Marian translate all lines, in a process of its own that has loaded its model."""
    vocabulary = folder / "vocabulary.spm"
    vocabulary.write_bytes((next(iter(exported.values())) / "vocabulary.model").read_bytes())
    model = folder / "marian.npz"
    if not model.is_file():
        initialise(model, vocabulary, lines, options)
    if kind != "float32":
        packed = folder / f"marian.{kind}.bin"
        call(options, "convert", "--from", str(model), "--to", str(packed), "--gemm-type", kind)
        model = packed
    settings: dict[str, Any] = {
        "models": str(model),
        "vocabs": [str(vocabulary), str(vocabulary)],
        "beam_size": options.beam,
        "cpu_threads": options.threads,
        "mini_batch": options.batch,
        "maxi_batch": 100,
        "maxi_batch_sort": "src",
        "max_length_factor": 1.0,
        "normalize": 1.0,
        "workspace": 1000,
        "quiet": True,
        "quiet_translation": True,
    }
    checked = Server(options, folder / "check.json", {**settings, "n_best": True, "word_scores": True}, lines[:2])
    first = str(checked.run()[0]).split("\n")[0]
    words = first.partition("WordScores= ")[2].partition(" |||")[0].split()
    assert len(words) == options.pieces + 1, f"Marian wrote {len(words)} pieces: {first}"
    return Server(options, folder / f"{kind}.json", settings, lines).run


def initialise(model: Path, vocabulary: Path, lines: Sequence[str], options: argparse.Namespace) -> None:
    """Marian's model of the same shape after one update, whose end of sentence is impossible."""
    import numpy as np
    from sentencepiece import SentencePieceProcessor

    encoder, decoder, width, ffn, heads = SHAPES[options.shape]
    text = model.with_suffix(".txt")
    text.write_text("".join(f"{line}\n" for line in lines[:4]), "utf-8")
    shape = ["--type", "transformer", "--enc-depth", str(encoder), "--dec-depth", str(decoder), "--dim-emb", str(width),
             "--transformer-dim-ffn", str(ffn), "--transformer-heads", str(heads), "--tied-embeddings-all",
             "--transformer-ffn-activation", "relu", "--transformer-preprocess", "n", "--transformer-postprocess", "da",
             "--transformer-postprocess-top", "n"]  # fmt: skip
    call(options, "train", *shape, "--vocabs", str(vocabulary), str(vocabulary), "--dim-vocabs",
         str(options.vocabulary), str(options.vocabulary), "--train-sets", str(text), str(text), "--model", str(model),
         "--after", "1u", "--cpu-threads", "1", "--mini-batch", "4", "--workspace", "500", "--seed", "1")  # fmt: skip
    weights = dict(np.load(model))
    bias = weights["decoder_ff_logit_out_b"].copy()
    bias[0, SentencePieceProcessor(model_file=str(vocabulary)).eos_id()] = IMPOSSIBLE
    np.savez(model, **{**weights, "decoder_ff_logit_out_b": bias})


def call(options: argparse.Namespace, *arguments: str) -> None:
    """Marian's own command line."""
    program = Path(options.python).with_name("pymarian")
    if not program.is_file():
        raise SystemExit(f"There is no {program}: `pip install pymarian`, or name an interpreter with --python.")
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pymarian {arguments[0]} failed.\n{done.stderr[-2000:]}")


class Server:
    """A process that has loaded a model of Marian's."""

    def __init__(self, options: argparse.Namespace, place: Path, settings: dict[str, Any], lines: list[str]) -> None:
        place.write_text(json.dumps([settings, lines]), "utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [options.python, "-c", SERVER, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._answer("ready")

    def run(self) -> list[str]:
        """Translate everything once."""
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found = json.loads(self._answer())
        return found if isinstance(found, list) else found.split("\n\n")

    def _answer(self, wanted: str = "") -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer.startswith(wanted) or not answer:
            raise SystemExit(f"Marian's process ended ({self._process.wait()}).")
        return answer


if __name__ == "__main__":
    main()
