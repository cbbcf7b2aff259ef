"""Training: tokens a second of kd's training task against stock `fairseq-train` with the same flags.

    python benchmarks/bench_train.py                                              # a tiny model, one thread
    python benchmarks/bench_train.py --device cuda --shape big --precision bf16 --updates 200 --max-tokens 16000
    python benchmarks/bench_train.py --data store/encode.en-de/*/all --updates 600       # end to end, after `make demo`

Ours is the task's own code: the training with its checkpoints, signals and checks, metrics.jsonl, event files
and, on a GPU, energy. Stock is fairseq's program behind the same compatibility module. Both get the same flags, data
and seed, so the same updates; timed are those between the first logged line and the last, without start and saving.
With `--data`, the folder of a stage `encode` instead of generated pairs, both also translate its dev set greedily in
the same three validations, and the first ratio is end to end: from the start of the process to the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decode_models import SHAPES, model_config
from random_pairs import LONGEST, write_folders
from ratio import Comparison, heading

GOOD = 0.99
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
T95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
# Dense matrix products in TFLOP/s, by a part of the GPU's name, from NVIDIA's data sheets; fp32 without TF32.
PEAK = {
    "H200": {"bf16": 989.0, "fp16": 989.0, "fp32": 67.0},
    "H100": {"bf16": 989.0, "fp16": 989.0, "fp32": 67.0},
    "A100": {"bf16": 312.0, "fp16": 312.0, "fp32": 19.5},
    "V100": {"fp16": 125.0, "fp32": 15.7},
}
# `--bf16` asks for a TPU; fairseq's own main with the value set in its configuration is what remains.
STOCK_BF16 = """
import sys
from kd.engines.fairseq import compat
compat.install()
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.distributed import utils
from fairseq_cli.train import main
cfg = convert_namespace_to_omegaconf(
    options.parse_args_and_arch(options.get_training_parser(), input_args=sys.argv[1:]))
cfg.common.bf16 = True
utils.call_main(cfg, main)
"""


@dataclass(frozen=True)
class Timed:
    """One training, in seconds."""

    seconds: float  # between its first logged line and its last
    whole: float
    processor: float  # of all threads and processes, start and saving included: what a busy computer does not change
    dev: dict[str, float] = field(default_factory=dict)  # the last validation, where there is one
    target_tokens: float = 0.0  # of ours, between the first logged line and the last, padding not counted


def main() -> None:
    """Alternate the two and print ratio, rates and, where the peak is known, model FLOPs utilisation."""
    options = arguments()
    with tempfile.TemporaryDirectory() as place:
        spec = specification(Path(place), options)
        threads = f", {options.threads} threads" if options.device == "cpu" else ""
        title = f"Training {options.updates} updates: {options.shape}, {options.device} {options.precision}{threads}"
        print(heading(title), flush=True)
        rounds: list[tuple[Timed, Timed]] = []
        for number in range(options.rounds + 1):
            works = [ours, stock] if number % 2 else [stock, ours]  # whoever begins, the other begins the next time
            done = {work: work(spec, Path(place) / f"{work.__name__}-{number}", options.threads) for work in works}
            if number:  # the first warms caches up
                rounds.append((done[ours], done[stock]))
                mine, theirs = rounds[-1]
                speed, work = theirs.seconds / mine.seconds, theirs.processor / mine.processor
                print(f"  round {number}: {speed:.3f}, by processor time {work:.3f}", flush=True)
        report(spec, rounds, options)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="tiny", choices=list(SHAPES), help="128-wide 3+3, 512-wide 6+6, transformer_big")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--precision", default="fp32", choices=["fp32", "fp16", "bf16"])
    add("--updates", type=int, default=140)
    add("--max-tokens", type=int, default=1500, help="of a pass, which is an update here")
    add("--vocabulary", type=int, help="pieces of generated pairs; 4,000, of other shapes than tiny 32,000")
    add("--data", type=Path, help="a folder of the stage encode, with its dev set: end to end with validations")
    add("--pairs", type=int, default=100_000)
    add("--log-every", type=int, default=10)
    add("--threads", type=int, default=1)
    add("--rounds", type=int, default=5)
    add("--peak", type=float, help="TFLOP/s of the device, for model FLOPs utilisation; known of some GPUs")
    options = parser.parse_args()
    options.vocabulary = options.vocabulary or (4000 if options.shape == "tiny" else 32_000)
    return options


def specification(place: Path, options: argparse.Namespace, data: tuple[Path, ...] = ()) -> Any:
    """What both train; data: folders, made here where none are given."""
    from kd.engines.fairseq.flags import TrainSpec
    from kd.recipe.schema import BatchConfig, CheckpointConfig, OptimizerConfig, Precision, TrainConfig

    if options.data:
        data = (options.data.resolve(),)
    data = data or write_folders(
        place / "data", options.pairs, vocabulary=options.vocabulary, folder_pairs=options.pairs
    )
    every = options.updates // 3 if options.data else 10 * options.updates
    config = TrainConfig(
        model=model_config(options.shape),
        optimizer=OptimizerConfig(
            learning_rate=4e-3 if options.data else 1e-4, warmup_updates=100, label_smoothing=0.1, clip_norm=1.0
        ),
        batch=BatchConfig(target_tokens=options.max_tokens, max_tokens=options.max_tokens),
        checkpoint=CheckpointConfig(every=every, keep=1, average=1),
        members=1,
        seed=1,
        max_update=options.updates,
        precision=Precision(options.precision),
        validate_bleu=options.data is not None,
        log_every=options.log_every,
    )
    return TrainSpec(
        config=config,
        data=data,
        vocabulary=data[0] / "vocabulary.model",  # of generated pairs: none, since nothing is translated
        max_pieces=LONGEST,
        max_tokens=options.max_tokens,
        update_freq=1,
        seed=1,
        device=options.device,
    )


def ours(spec: Any, out: Path, threads: int) -> Timed:
    """What kd's task does."""
    from kd import tracking
    from kd.base import energy
    from kd.engines.fairseq import training

    seen: list[float] = []
    told = tracking.facts({"tensorboard": True}, out / "run", "bench", "")
    with (
        energy.measuring(out.with_suffix(".energy"), uses_gpus=True, machine={"device": spec.device}),
        tracking.follower(told, "train/member-1", {}, out / training.METRICS) as follower,
    ):

        def tell(now: Any) -> None:
            if now.update:
                seen.append(time.perf_counter())
            follower.look()

        began, worked = time.perf_counter(), processor_seconds()
        training.train(spec, out, tell, threads=threads)
        whole, processor = time.perf_counter() - began, processor_seconds() - worked
    entries = list(training.read_metrics(out / training.METRICS))
    lines, dev = ([entry for entry in entries if entry["split"] == split] for split in ("train", "dev"))
    target = float(lines[-1]["target_tokens"] - lines[0]["target_tokens"])
    return Timed(seen[-1] - seen[0], whole, processor, dev[-1] if dev else {}, target)


def stock(spec: Any, out: Path, threads: int) -> Timed:
    """What `fairseq-train` does, its output read line by line as well."""
    from kd.engines.fairseq.flags import arguments as flags
    from kd.recipe.schema import Precision

    program = ["-m", "kd.engines.fairseq", "fairseq-train"]
    if spec.config.precision is Precision.bf16:
        program = ["-c", STOCK_BF16]
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **dict.fromkeys(variables, str(threads)), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", *program, *flags(spec, out)]
    seen: list[float] = []
    last: list[str] = []
    dev: dict[str, float] = {}
    began, worked = time.perf_counter(), processor_seconds()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-20:], line]
            if re.search(r"\| train_inner \| \{", line):
                seen.append(time.perf_counter())
            if found := re.search(r"\| valid \| (\{.*\})", line):
                dev = {name.removeprefix("valid_"): float(value) for name, value in json.loads(found[1]).items()}
    if process.returncode:
        sys.exit("".join(last))
    return Timed(seen[-1] - seen[0], time.perf_counter() - began, processor_seconds() - worked, dev)


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def report(spec: Any, rounds: list[tuple[Timed, Timed]], options: argparse.Namespace) -> None:
    """Print ratio, rates and utilisation."""
    comparison = Comparison([mine.seconds for mine, _ in rounds], [theirs.seconds for _, theirs in rounds])
    low, high = interval(comparison.ratios)
    verdict = "includes" if low <= GOOD <= high else "is above" if low > GOOD else "is below"
    print(f"Ours is {comparison.speedup()} as fast as fairseq-train")
    print(f"  95 % interval of the mean ratio {low:.3f} to {high:.3f}, which {verdict} {GOOD}")
    seen = tokens(spec, rounds[-1][0].target_tokens)
    print(f"  {comparison.rates(round(seen['target']), 'target tokens')}")
    whole = Comparison([mine.whole for mine, _ in rounds], [theirs.whole for _, theirs in rounds]).speedup()
    processor = interval([theirs.processor / mine.processor for mine, theirs in rounds])
    print(
        f"  end to end, from start to last checkpoint: {whole}; processor time {processor[0]:.3f} to {processor[1]:.3f}"
    )
    for name in ("loss", "bleu") if options.data else ():
        print(f"  dev {name} after the last update: ours {rounds[-1][0].dev[name]}, stock {rounds[-1][1].dev[name]}")
    peak = options.peak or known_peak(options)
    if peak:
        rate = training_flops(spec, options, seen) / statistics.median(comparison.ours) / 1e12
        print(f"  {rate:.1f} TFLOP/s of the model, {rate / peak:.1%} of {peak:g} (model FLOPs utilisation)")


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % interval of the mean ratio: Student's t on logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    if len(logs) < 2:
        return ratios[0], ratios[0]
    half = T95.get(len(logs) - 1, 2.262) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.mean(logs)
    return math.exp(middle - half), math.exp(middle + half)


def tokens(spec: Any, target: float) -> dict[str, float]:
    """Source and target tokens of a part of the training, by its target tokens."""
    from kd.engines.fairseq.binary import IndexedReader, data_prefix

    pieces = {side: IndexedReader(data_prefix(spec.data[0], "train", side)).pieces for side in ("source", "target")}
    return {"target": target, "source": target * pieces["source"] / pieces["target"]}


def training_flops(spec: Any, options: argparse.Namespace, seen: dict[str, float]) -> float:
    """Floating-point operations of forward and backward pass for these tokens, recomputation and padding not counted.

    Chowdhery et al. (2022), PaLM, appendix B: 6 for each weight of a matrix product and token, and 12 * layers * width
    * length a token for attention; here by side: the encoder and the keys and values of cross-attention see source
    tokens, the rest of the decoder and the output layer target tokens. A token's sentence is sum(n*n) / sum(n) long.
    """
    import numpy as np

    from kd.engines.fairseq.binary import IndexedReader, data_prefix

    model = spec.config.model
    width, square, block = model.width, model.width**2, 2 * model.width * model.ffn
    sizes = {side: IndexedReader(data_prefix(spec.data[0], "train", side)).sizes for side in ("source", "target")}
    length = {side: float(np.mean(n.astype(np.float64) ** 2) / np.mean(n)) for side, n in sizes.items()}
    source = model.encoder_layers * (6 * (4 * square + block) + 12 * width * length["source"])
    source += model.decoder_layers * 6 * 2 * square
    target = model.decoder_layers * (6 * (6 * square + block) + 12 * width * (length["target"] + length["source"]))
    target += 6 * width * options.vocabulary
    return source * seen["source"] + target * seen["target"]


def known_peak(options: argparse.Namespace) -> float | None:
    """TFLOP/s of the GPU, if it is one of the table's."""
    if options.device == "cpu":
        return None
    import torch

    name = torch.cuda.get_device_name()
    return next((peaks.get(options.precision) for part, peaks in PEAK.items() if part in name), None)


if __name__ == "__main__":
    main()
