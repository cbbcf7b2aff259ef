"""Decoding with an ensemble of four: sentences a second against stock `fairseq-generate`, and how like the engines are.

    python benchmarks/bench_decode.py                        # four 128-wide 3+3 members, trained first, and cached
    python benchmarks/bench_decode.py --shape base           # four 512-wide 6+6 members with random weights
    python benchmarks/bench_decode.py --agreement --source train.en.gz --target train.de.gz
    python benchmarks/bench_decode.py --device cuda --shape big --precision bf16 --beam 5 --sentences 2000

Stock is what `fairseq-generate` runs: `fairseq_cli.generate` in this process, with its models loaded and its data
open before the clock starts, so that only its loop over batches is timed, printing switched off. Both get the same
sentences, models, beam, limit and tokens a batch.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decode_models import generated_pairs, held_out, prepare, read_pairs, write_data
from ratio import alternate, heading

Lists = list[list[tuple[float, list[str]]]]  # by sentence: score and pieces, the best first


def main() -> None:
    options = arguments()
    pairs = read_pairs(options.source, options.target) if options.source else generated_pairs(30_000, 1)
    train, test = held_out(pairs)
    test = [pair for pair in test if pair[0].strip() and pair[1].strip()][: options.sentences]
    if options.models:
        folders = options.models
    else:
        updates = options.updates if options.shape == "tiny" else 0
        folders = prepare(
            options.cache / ("text" if options.source else "generated"),
            train,
            shape=options.shape,
            members=options.members,
            updates=updates,
            vocabulary_size=options.vocabulary,
        )
    title = f"{len(folders)} members, {options.shape}, beam {options.beam}, {options.device} {options.precision}"
    print(heading(f"Decoding {len(test)} sentences: {title}, {options.threads} threads"))
    if options.agreement:
        agreement(folders, test, options)
    else:
        speed(folders, [source for source, _ in test], options)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="tiny", choices=["tiny", "base", "big"], help="128-wide 3+3, 512-wide 6+6, transformer_big")
    add("--members", type=int, default=4)
    add("--models", type=Path, nargs="+", help="folders of trained models, instead of models of this benchmark")
    add("--source", type=Path, help="text to train on and, its end, to decode; generated where none is named")
    add("--target", type=Path)
    add("--updates", type=int, default=400, help="of each tiny member; others have random weights")
    add("--vocabulary", type=int, help="pieces; 8000, of generated text 4000")
    add("--sentences", type=int, default=200)
    add("--beam", type=int, default=4)
    add("--max-pieces", type=int, help="longest output; 128, of random weights 24")
    add("--batch-tokens", type=int, default=4000)
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=3)
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    add(
        "--engines", default="ensemble,members,members:int8,one", help="which; NAME:TYPE searches in CTranslate2's type"
    )
    add("--member-nbest", type=int, help="hypotheses that each member gives; as many as the beam is wide")
    add("--agreement", action="store_true", help="how like the lists of the engines are, instead of their speed")
    add("--cache", type=Path, default=Path(tempfile.gettempdir()) / "kd-bench-decode", help="folder of trained models")
    options = parser.parse_args()
    if options.vocabulary is None:  # generated sentences do not fill a large one
        options.vocabulary = 8000 if options.source else 4000
    if options.max_pieces is None:
        options.max_pieces = 128 if options.shape == "tiny" or options.models else 24
    return options


def speed(folders: Sequence[Path], sources: Sequence[str], options: argparse.Namespace) -> None:
    """Each engine against stock, in turn."""
    stock = stock_search(folders, sources, options)
    for name in options.engines.split(","):
        ours = engine(name, folders, options)
        comparison = alternate(lambda run=ours: run(sources), stock, options.rounds)
        rates = comparison.rates(len(sources), "sentences")
        print(f"{name}: {comparison.speedup()} as fast as fairseq-generate; {rates}", flush=True)
        if name == "ensemble":
            print(f"  {compared(ours(sources), stock())}")


def engine(name: str, folders: Sequence[Path], options: argparse.Namespace) -> Callable[[Sequence[str]], Lists]:
    """A loaded engine; `one` is the first member alone, by CTranslate2, whose type may follow a colon."""
    from kd.models.vocabulary import Vocabulary

    name, _, compute_type = name.partition(":")
    compute_type = compute_type or "float32"
    vocabulary = Vocabulary(folders[0])
    settings: dict[str, Any] = {
        "beam": options.beam,
        "nbest": options.beam,
        "max_pieces": options.max_pieces,
        "batch_tokens": options.batch_tokens,
        "threads": options.threads,
        "device": options.device,
    }
    if name == "one":
        return one_member(folders[0], vocabulary, settings, compute_type)
    if name == "members":
        from kd.engines.members import MembersTranslator

        translator: Any = MembersTranslator(
            folders,
            vocabulary,
            precision=options.precision,
            compute_type=compute_type,
            member_nbest=options.member_nbest,
            **settings,
        )
    else:
        from kd.engines.fairseq.translate import EnsembleTranslator

        translator = EnsembleTranslator(folders, vocabulary, precision=options.precision, **settings)
    return lambda sources: [[(each.score, each.pieces) for each in found] for found in translator.translate(sources)]


def one_member(folder: Path, vocabulary: Any, settings: dict[str, Any], compute_type: str) -> Any:
    """CTranslate2 with a single model."""
    from kd.engines.ctranslate2 import PieceTranslator, convert, load
    from kd.models.folder import ModelFolder

    threads, device = settings.pop("threads"), settings.pop("device")
    with tempfile.TemporaryDirectory() as place:
        convert(ModelFolder.open(folder), Path(place) / "model", "float32")
        model = load(Path(place) / "model", compute_type=compute_type, threads=threads, device=device)
    translator = PieceTranslator(model, length_penalty=1.0, **settings)
    return lambda sources: translator.nbest(vocabulary.encode_pieces(sources))


def stock_search(folders: Sequence[Path], sources: Sequence[str], options: argparse.Namespace) -> Callable[[], Lists]:
    """What `fairseq-generate` does after loading: its task's batches, its generator, its post-processing of lists."""
    from kd.engines.fairseq import compat

    compat.install()
    import torch
    from fairseq import checkpoint_utils, tasks, utils
    from fairseq import options as flags

    data = Path(tempfile.mkdtemp(prefix="kd-bench-data-"))
    write_data(data, "test", [(source, source) for source in sources], folders[0])
    words = [str(data), "--path", ":".join(str(folder / "model.pt") for folder in folders), "--task", "translation"]
    words += ["--source-lang", "source", "--target-lang", "target", "--beam", str(options.beam)]
    words += ["--nbest", str(options.beam), "--max-len-a", "0", "--max-len-b", str(options.max_pieces)]
    words += ["--max-tokens", str(options.batch_tokens)]
    parsed = flags.parse_args_and_arch(flags.get_generation_parser(), input_args=words)
    task = tasks.setup_task(parsed)
    task.load_dataset("test")
    models, _ = checkpoint_utils.load_model_ensemble(parsed.path.split(":"), task=task)
    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[options.precision]
    models = [model.to(options.device, kind).eval() for model in models]
    generator = task.build_generator(models, parsed)
    torch.set_num_threads(options.threads)

    def run() -> Lists:
        lists: Lists = [[] for _ in range(len(task.dataset("test")))]
        positions = utils.resolve_max_positions(task.max_positions(), *[model.max_positions() for model in models])
        batches = task.get_batch_iterator(
            task.dataset("test"), max_tokens=parsed.max_tokens, max_positions=positions, required_batch_size_multiple=8
        ).next_epoch_itr(shuffle=False)
        for batch in batches:
            sample = utils.move_to_cuda(batch) if options.device == "cuda" else batch
            found = task.inference_step(generator, models, sample)
            for number, hypotheses in zip(sample["id"].tolist(), found, strict=True):
                lists[number] = [
                    (float(each["score"]), task.target_dictionary.string(each["tokens"].int().cpu()).split())
                    for each in hypotheses
                ]
        return lists

    return run


def compared(ours: Lists, theirs: Lists) -> str:
    """How many lists are equal, apart from the order of neighbours whose scores differ by rounding alone."""
    equal = best = 0
    widest = 0.0
    for mine, stock in zip(ours, theirs, strict=True):
        equal += {tuple(pieces) for _, pieces in mine} == {tuple(pieces) for _, pieces in stock}
        best += mine[0][1] == stock[0][1]
        widest = max([widest, *(abs(a - b) for (a, _), (b, _) in zip(mine, stock, strict=False))])
    return f"equal lists {equal} of {len(ours)}, equal 1-best {best}, largest difference of a score {widest:.1e}"


def agreement(folders: Sequence[Path], test: Sequence[tuple[str, str]], options: argparse.Namespace) -> None:
    """Engines against each other and against references: 1-best, BLEU, and BLEU of the best of each list."""
    from kd.models.vocabulary import Vocabulary

    vocabulary = Vocabulary(folders[0])
    sources, references = [source for source, _ in test], [target for _, target in test]
    texts: dict[str, list[list[str]]] = {}
    scores: dict[str, list[float]] = {}
    for name in ["ensemble", *(name for name in options.engines.split(",") if name.startswith("members"))]:
        lists = engine(name, folders, options)(sources)
        texts[name] = [[vocabulary.decode_pieces(pieces) for _, pieces in found] for found in lists]
        scores[name] = [found[0][0] for found in lists]
    report(texts, scores, references)


def report(texts: dict[str, list[list[str]]], scores: dict[str, list[float]], references: list[str]) -> None:
    """Print the table."""
    from sacrebleu.metrics import BLEU

    bleu, sentence = BLEU(), BLEU(effective_order=True)

    def oracle(found: list[str], reference: str) -> str:
        return max(found, key=lambda text: sentence.sentence_score(text, [reference]).score)

    for name, lists in texts.items():
        best = [found[0] for found in lists]
        chosen = [oracle(found, reference) for found, reference in zip(lists, references, strict=True)]
        print(
            f"{name}: BLEU {bleu.corpus_score(best, [references]).score:.2f}, oracle BLEU of the lists "
            f"{bleu.corpus_score(chosen, [references]).score:.2f}, {statistics.mean(map(len, lists)):.2f} hypotheses "
            f"a list, {statistics.mean(len(set(found)) for found in lists):.2f} distinct texts, differing by "
            f"{statistics.mean(map(difference, lists)):.3f}, "
            f"mean score of the 1-best {statistics.mean(s for s in scores[name] if math.isfinite(s)):.4f}"
        )
    other = [found[0] for found in texts["ensemble"]]
    for name in (name for name in texts if name != "ensemble"):
        ours = [found[0] for found in texts[name]]
        equal = sum(a == b for a, b in zip(ours, other, strict=True))
        better = sum(a > b + 1e-4 for a, b in zip(scores[name], scores["ensemble"], strict=True))
        worse = sum(a < b - 1e-4 for a, b in zip(scores[name], scores["ensemble"], strict=True))
        print(
            f"{name} against ensemble: equal 1-best {equal} of {len(ours)}, BLEU between them "
            f"{bleu.corpus_score(ours, [other]).score:.2f}; its 1-best has the better score in {better}, "
            f"the worse in {worse}"
        )
    print(bleu.get_signature())


def difference(found: list[str]) -> float:
    """Mean of 1 - BLEU (effective order, 0 to 1) of each hypothesis of a list against each other one."""
    from sacrebleu.metrics import BLEU

    sentence = BLEU(effective_order=True)
    pairs = [(a, b) for i, a in enumerate(found) for j, b in enumerate(found) if i != j]
    return statistics.mean(1 - sentence.sentence_score(a, [b]).score / 100 for a, b in pairs) if pairs else 0.0


if __name__ == "__main__":
    main()
