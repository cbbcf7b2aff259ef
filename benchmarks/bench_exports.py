"""Exports of one model beside kd: the share of equal translations, the BLEU between them, and the time.

    python -m benchmarks.bench_exports runs/demo/release.en-de test.en            # a run's folders for distribution
    python -m benchmarks.bench_exports store/student.en-de/HASH/member-1 test.en   # a trained model, exported here

Each format is translated by the software that it is for: CTranslate2's by kd, and by CTranslate2 and sentencepiece
without kd; huggingface by transformers; onnx by onnxruntime; marian by pymarian. A format whose libraries are not
installed is left out. Processor time includes loading the model. BLEU is that of a format's output, with kd's output as
the reference.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.ratio import heading
from kd.base.scratch import scratch_folder
from kd.engines.ctranslate2 import export as export_ctranslate2
from kd.engines.loading import Decoding, load
from kd.engines.packages import Package, packages
from kd.metrics.corpus import corpus_scores
from kd.models.description import Original, read_description, read_languages
from kd.models.files import DESCRIPTION, EXPORTED, VOCABULARY, WEIGHTS
from kd.stages.export import NEEDED

FLOAT32 = "float32"
FORMATS = tuple(NEEDED)  # Argos's package, which is CTranslate2's int8, is not among them
LONGEST = 256  # tokens of a translation, if a model does not state the length of its training


@dataclass(frozen=True)
class Consumer:
    """A format and the software that translates with it.

    Attributes:
        name: Its row in the table.
        folder: The export.
        translate: Translates sentences with given settings.
    """

    name: str
    folder: Path
    translate: Callable[[Sequence[str], Decoding], list[str]]


def main() -> None:
    """Translate with each consumer at each beam, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, help="a trained model folder, or a folder with a model's folders for distribution")
    add("source", type=Path, help="sentences of the source language, one on a line")
    add("--beams", type=int, nargs="+", default=[1, 4])
    add("--formats", nargs="*", default=list(FORMATS), choices=FORMATS, help="beside CTranslate2's float32")
    add("--sentences", type=int, help="translate the first N only")
    add("--to", help="target language, for a model with several")
    options = parser.parse_args()
    sources = options.source.read_text("utf-8").split("\n")[: options.sentences]
    sources = [line for line in sources if line.strip()]
    chosen = dict(usable(options.formats))
    with exports(options.folder, chosen) as folders:
        consumers = [*consumers_of(folders, chosen)]
        print(heading(f"exports of {options.folder.name}, {len(sources)} sentences, one thread"), flush=True)
        print_table(consumers, sources, options.beams, options.to)


@contextmanager
def exports(folder: Path, chosen: Mapping[str, Package]) -> Iterator[dict[str, Path]]:
    """Yield the folder of each format: those below a folder, or those that are made of a trained model."""
    if not (folder / WEIGHTS).is_file():
        yield released(folder, [FLOAT32, *chosen])
        return
    original = Original(read_languages(folder))
    with scratch_folder("kd-bench-exports-") as out:
        export_ctranslate2(folder, out / FLOAT32, FLOAT32, original)
        for name, package in chosen.items():
            package.export(folder, out / name, original, beam=4)
        yield {path.name: path for path in sorted(out.iterdir())}


def released(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the folders for distribution by format; the format is the end of a folder's name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if (path / DESCRIPTION).is_file() and (format_ := path.name.rpartition("-")[2]) in names:
            found.setdefault(format_, path)
    if FLOAT32 not in found:
        raise SystemExit(
            f"{folder} has no model in float32. Give a trained model folder, or set export.formats.float32=true."
        )
    return found


def usable(names: Sequence[str]) -> Iterator[tuple[str, Package]]:
    """Yield the packages whose libraries are installed."""
    for name in names:
        missing = [library for library in NEEDED[name][0] if not find_spec(library)]
        if missing:
            print(f"{name} is left out: {', '.join(missing)} not installed", file=sys.stderr)
        else:
            yield name, packages()[name]


def consumers_of(folders: Mapping[str, Path], chosen: Mapping[str, Package]) -> Iterator[Consumer]:
    """Yield the software for each format, kd first."""
    float32 = folders[FLOAT32]
    yield Consumer(
        "kd", float32, lambda sources, decoding: list(load([float32], decoding, threads=1, device="cpu")(sources))
    )
    yield Consumer("CTranslate2 + sentencepiece", float32, lambda sources, decoding: plain(float32, sources, decoding))
    for name, package in chosen.items():
        if folder := folders.get(name):
            yield Consumer(name, folder, with_package(package, folder))


def with_package(package: Package, folder: Path) -> Callable[[Sequence[str], Decoding], list[str]]:
    """Return the translation by a package's software."""
    return lambda sources, decoding: package.translate(folder, sources, decoding, threads=1)


def plain(folder: Path, sources: Sequence[str], decoding: Decoding) -> list[str]:
    """Translate by CTranslate2 and sentencepiece alone, as the card of an export shows; tags are not added."""
    import ctranslate2
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / VOCABULARY))
    model = ctranslate2.Translator(str(folder / EXPORTED), inter_threads=1, intra_threads=1)
    results = model.translate_batch(
        pieces.encode(list(sources), out_type=str),
        beam_size=decoding.beam,
        max_decoding_length=decoding.max_pieces,
        max_batch_size=decoding.batch_tokens,
        batch_type="tokens",
    )
    return [pieces.decode(result.hypotheses[0]) for result in results]


def print_table(consumers: Sequence[Consumer], sources: Sequence[str], beams: Sequence[int], to: str | None) -> None:
    """Print a row for each beam and consumer, as soon as it is measured."""
    longest = read_description(consumers[0].folder).get("max_target_pieces") or LONGEST
    print("| beam | format | equal to kd | BLEU | CPU s | MB |\n| ---: | --- | ---: | ---: | ---: | ---: |")
    signature = ""
    for beam in beams:
        reference: list[str] = []
        for consumer in consumers:
            start = cpu_seconds()
            found = consumer.translate(sources, Decoding(beam, longest, 2000, to))
            seconds = cpu_seconds() - start
            reference = reference or found
            equal = sum(one == other for one, other in zip(reference, found, strict=True)) / len(sources)
            bleu = corpus_scores(found, [reference], ["bleu"])[0]
            signature = bleu.signature
            print(f"| {beam} | {consumer.name} | {equal:.1%} | {bleu.value:.1f} | {seconds:.1f} | "
                  f"{megabytes(consumer.folder):.1f} |", flush=True)  # fmt: skip
    print(f"\nBLEU: {signature}")


def cpu_seconds() -> float:
    """Return the processor time of this process and its finished children: with one thread, that of an idle machine."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def megabytes(folder: Path) -> float:
    """Return the size of an export in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
