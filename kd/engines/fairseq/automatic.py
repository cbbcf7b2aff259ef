"""Derive settings with the value `auto` from the device: a training's precision and micro-batch size.

The values are recorded when a training first starts (`device.json` in its folder) and reused whenever it resumes.
docs/training.md states the rules. Needs no torch: `trial.py` runs in a separate process.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from kd.base.errors import UserError
from kd.base.files import write_json
from kd.engines.fairseq.environment import process_environment
from kd.engines.fairseq.forecast import Memory, memory
from kd.recipe.schema import AUTO, ModelConfig, Precision, TrainConfig

FILE = "device.json"
RESERVED_BYTES = 1.5e9  # of a GPU: CUDA's context, and what torch's allocator loses between its blocks
USABLE = 0.95  # of the rest
SIZES = (512, 1024, 2048, 4096, 8192, 16384)  # tokens of a micro-batch that are tried on a CPU
FP16_LAYERS = 6  # a side: post-norm models of this depth were trained in fp16 with a loss scale (Ott et al., 2018)

Answer = dict[str, Any]
Asks = Callable[[Mapping[str, Any], int], Answer]


@dataclass(frozen=True)
class Surroundings:
    """The facts, besides the settings of the training, from which the values are derived.

    Attributes:
        device: cpu, cuda or rocm.
        gpu_memory: Bytes of a GPU, as stated in the machine's file; None if not stated.
        dictionary: Path of the vocabulary.
        symbols: Number of symbols in the vocabulary, special ones included.
        longest: Tokens of the longest sentence, end of sentence included.
        mean: Mean tokens per sentence, end of sentence included.
        teachers: Parameters of all teachers whose distributions are computed in each update.
    """

    device: str
    threads: int
    world_size: int
    gpu_memory: float | None
    dictionary: Path
    symbols: int
    longest: int
    mean: int
    teachers: int = 0


@dataclass(frozen=True)
class Settled:
    """A training's settings without `auto`, and notes for the user on the choice."""

    config: TrainConfig
    notes: tuple[str, ...] = ()


def settle(
    config: TrainConfig, here: Surroundings, out: Path, earlier: Sequence[Path] = (), trial: Asks | None = None
) -> Settled:
    """Replace `auto` by values for this device, or by the values recorded at an earlier start.

    Args:
        config: The settings.
        here: The device and the data.
        out: The folder of the training, in which the values are recorded.
        earlier: Folders of shorter trainings that this one may resume from.
        trial: Runs a request of `trial.py` with a given number of threads.

    Raises:
        UserError: The GPU cannot be used, or its memory is too small for the longest sentence.
    """
    if config.precision is not Precision.auto and config.batch.max_tokens != AUTO:
        return Settled(config)
    trial = trial or run_trial
    recorded = next((found for folder in (out, *earlier) if (found := _recorded(folder))), None)
    notes = []
    if recorded is None:
        gpu = trial({"what": "ask"}, here.threads) if here.device != "cpu" else {}
        if here.device != "cpu" and gpu["gpu"] is None:
            raise UserError(
                "No CUDA device can be used on this machine.",
                "Set machine.device=cpu, or check the GPU with `nvidia-smi`.",
            )
        precision, why = choose_precision(config, gpu)
        chosen = replace(config, precision=precision)
        notes += [f"precision: {precision.value} ({why})."] if config.precision is Precision.auto else []
        size, why = config.batch.max_tokens, ""
        if size == AUTO:
            choose = _size_on_cpu if here.device == "cpu" else _size_on_gpu
            size, why = choose(chosen, here, gpu, trial)
            notes.append(f"batch.max_tokens: {size:,} ({why}).")
        recorded = {"precision": precision.value, "max_tokens": size, "notes": notes}
    else:
        notes = [f"{note.rstrip('.')}, as when this training first started." for note in recorded["notes"]]
    write_json(out / FILE, recorded)
    precision = Precision(recorded["precision"]) if config.precision is Precision.auto else config.precision
    size = int(recorded["max_tokens"]) if config.batch.max_tokens == AUTO else config.batch.max_tokens
    return Settled(replace(config, precision=precision, batch=replace(config.batch, max_tokens=size)), tuple(notes))


def _recorded(folder: Path) -> Answer | None:
    """Return the values recorded in this folder by a training; None before its first start."""
    path = folder / FILE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else None


# --- precision -------------------------------------------------------------------------------------------------------


def choose_precision(config: TrainConfig, gpu: Answer) -> tuple[Precision, str]:
    """Return the precision for a GPU, and the reason; fp32 for a CPU (an empty `gpu`)."""
    if config.precision is not Precision.auto:
        return config.precision, "as set"
    if not gpu:
        return Precision.fp32, "the device is a CPU"
    if gpu["bf16"]:
        return Precision.bf16, f"{gpu['gpu']} supports it"
    if gpu["fp16"] and _is_safe_in_fp16(config.model):
        return Precision.fp16, f"{gpu['gpu']} has no bf16"
    if gpu["tf32"]:
        return Precision.tf32, f"{gpu['gpu']} has no bf16, and the model is too deep for fp16"
    return Precision.fp32, f"{gpu['gpu']} has neither bf16 nor TF32"


def _is_safe_in_fp16(model: ModelConfig) -> bool:
    """Return whether models of this depth are known to train in fp16: pre-norm, or at most 6 layers per side."""
    return model.pre_norm or max(model.encoder_layers, model.decoder_layers) <= FP16_LAYERS


# --- micro-batch -----------------------------------------------------------------------------------------------------


def largest_size(config: TrainConfig, here: Surroundings, available: float) -> int:
    """Return the largest micro-batch that is forecast to fit into this many bytes; at least the longest sentence."""
    fixed = _memory(config, here, 0).total
    return max(here.longest, int((available - fixed) / (_memory(config, here, 1).total - fixed)))


def _memory(config: TrainConfig, here: Surroundings, max_tokens: int) -> Memory:
    """Forecast the memory of a process for a micro-batch of this many tokens."""
    return memory(
        config,
        vocabulary=here.symbols,
        max_tokens=max_tokens,
        longest=here.longest,
        world_size=here.world_size,
        teachers=here.teachers,
    )


def _size_on_gpu(config: TrainConfig, here: Surroundings, gpu: Answer, trial: Asks) -> tuple[int, str]:
    """Return the largest micro-batch that memory allows, by forecast and by a trial step."""
    total = min(here.gpu_memory or gpu["total"], gpu["total"])
    available = (min(total, gpu["free"]) - RESERVED_BYTES) * USABLE
    # More than an update has is of no use; padding included, 2 tokens for each target token are enough.
    most = max(here.longest, 2 * config.batch.target_tokens // here.world_size)
    size = min(most, largest_size(config, here, available))
    fixed = _memory(config, here, 0)
    spare = fixed.communication + fixed.teachers
    request = {"what": "fit", "size": size, "smallest": here.longest, "length": here.longest, "spare": spare}
    answer = trial({**request, **_step(config, here)}, here.threads)
    if not answer["fits"]:
        raise UserError(
            f"A sentence of {here.longest} tokens does not fit into the memory of {gpu['gpu']}.",
            "Set encode.max_pieces lower, or use a smaller model.",
        )
    failed = ", ".join(map(str, answer["tried"][:-1]))
    tried = f", after {failed} ran out of memory" if failed else ""
    return int(answer["max_tokens"]), f"the most that {available / 1e9:.1f} GB of GPU memory hold{tried}"


def _size_on_cpu(config: TrainConfig, here: Surroundings, _: Answer, trial: Asks) -> tuple[int, str]:
    """Return the fastest micro-batch in a short trial; the result is cached for this machine and model."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (2 * here.world_size)
    most = min(largest_size(config, here, memory_bytes), max(here.longest, 2 * config.batch.target_tokens))
    sizes = sorted({max(here.longest, min(size, most)) for size in SIZES})
    request = {"what": "time", "sizes": sizes, "length": min(here.mean, here.longest), **_step(config, here)}
    threads = max(1, here.threads // here.world_size)
    host = {"host": socket.gethostname(), "threads": threads, "torch": metadata.version("torch")}
    work = {name: value for name, value in request.items() if name != "dictionary"}
    key = json.dumps({**work, **host, "symbols": here.symbols}, sort_keys=True)
    path = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        rates = json.loads(path.read_text("utf-8"))["rates"]
    else:
        rates = trial(request, threads)["rates"]
        write_json(path, {"rates": rates, **host})
    best = max(sizes, key=lambda size: rates[str(size)])
    return best, f"the fastest of {', '.join(map(str, sizes))} on this CPU, {rates[str(best)]:,.0f} tokens/s"


def cache_folder() -> Path:
    """Return the folder of cached trials on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd" / "trials"


def _step(config: TrainConfig, here: Surroundings) -> Answer:
    return {
        "model": asdict(config.model),
        "dictionary": str(here.dictionary),
        "precision": config.precision.value,
        "device": "cpu" if here.device == "cpu" else "cuda",  # torch's name for AMD GPUs as well
    }


def run_trial(request: Mapping[str, Any], threads: int) -> Answer:
    """Run a request in a separate process, and return its answer."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kd.engines.fairseq", "trial"],
        input=json.dumps(request),
        env=process_environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The trial of a training step failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.strip().split("\n")[-1]))
