"""Convert a training's settings to arguments of stock `fairseq-train`; `train.flags` in the model folder lists them.

`python -m kd.engines.fairseq fairseq-train` accepts them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from kd.engines.fairseq.binary import data_prefix
from kd.recipe.schema import Metric, ModelConfig, OptimizerConfig, Precision, Rest, Schedule, TrainConfig

WORD_LEVEL = "kd_word_level"  # the criterion that `criterion.py` registers
_NEVER = str(10**9)  # updates or epochs: longer than any training


@dataclass(frozen=True)
class TrainSpec:
    """The settings of one training for `fairseq-train`. Paths and devices aside, they determine the weights."""

    config: TrainConfig
    data: tuple[Path, ...]  # fairseq data folders, which the epochs read in turn; the first holds the dev set
    vocabulary: Path  # sentencepiece model, to measure BLEU on plain text
    max_pieces: int  # longest side of a pair, end of sentence not counted
    max_tokens: int  # of batching.BatchPlan
    update_freq: int  # of batching.BatchPlan
    seed: int
    device: str = "cpu"  # cpu | cuda
    world_size: int = 1  # processes, one per device
    init_from: Path | None = None  # a checkpoint to start from, without its optimiser state
    teachers: tuple[Path, ...] = ()  # of word-level distillation: checkpoints of the members …
    distributions: tuple[Path, ...] = ()  # … or the folders of their stored distributions
    flops_per_token: float | None = None  # of training on a target token, for model FLOPs utilisation

    @property
    def has_dev(self) -> bool:
        """Return whether there is a dev set."""
        return data_prefix(self.data[0], "valid", "source").with_suffix(".source.idx").is_file()


def arguments(spec: TrainSpec, save_dir: Path) -> list[str]:
    """Return the argument list of `fairseq-train`, without the program's name.

    bf16 is not included: fairseq's `--bf16` implies a TPU, so `train.py` sets it in the parsed configuration.
    """
    config = spec.config
    return [
        os.pathsep.join(str(folder) for folder in spec.data),
        *("--task", "translation", "--source-lang", "source", "--target-lang", "target"),
        *("--max-source-positions", str(spec.max_pieces + 1), "--max-target-positions", str(spec.max_pieces + 1)),
        "--skip-invalid-size-inputs-valid-test",
        *model_arguments(config.model),
        *_loss(spec),
        *_optimizer(config.optimizer),
        *("--max-tokens", str(spec.max_tokens), "--update-freq", str(spec.update_freq)),
        *("--max-update", str(config.max_update), "--seed", str(spec.seed)),
        *(("--stop-time-hours", str(config.stop.hours)) if config.stop.hours else ()),
        *_checkpoints(spec, save_dir),
        *_validation(spec),
        *_devices(spec),
        *("--num-workers", "0", "--no-progress-bar", "--log-format", "json", "--log-interval", str(config.log_every)),
    ]


def model_arguments(model: ModelConfig) -> list[str]:
    """Return the arguments for a Transformer's sizes, which fairseq's presets only imply."""
    flags = ["--arch", "transformer"]
    for side, layers in (("encoder", model.encoder_layers), ("decoder", model.decoder_layers)):
        flags += [f"--{side}-layers", str(layers), f"--{side}-embed-dim", str(model.width)]
        flags += [f"--{side}-ffn-embed-dim", str(model.ffn), f"--{side}-attention-heads", str(model.heads)]
        flags += [f"--{side}-normalize-before"] if model.pre_norm else []
    flags += ["--share-all-embeddings"] if model.tie_embeddings else []
    flags += ["--activation-fn", model.activation, "--dropout", str(model.dropout)]
    return [
        *flags,
        *("--attention-dropout", str(model.attention_dropout), "--activation-dropout", str(model.activation_dropout)),
    ]


def _loss(spec: TrainSpec) -> list[str]:
    """Return the loss: label-smoothed cross-entropy, optionally mixed with that against teachers (`criterion.py`)."""
    smoothing = ["--label-smoothing", str(spec.config.optimizer.label_smoothing)]
    if not (spec.teachers or spec.distributions):
        return ["--criterion", "label_smoothed_cross_entropy", *smoothing]
    distill = spec.config.distill
    option, paths = ("stored", spec.distributions) if spec.distributions else ("teachers", spec.teachers)
    end = distill.alpha if distill.end_alpha is None else distill.end_alpha
    return [
        *("--criterion", WORD_LEVEL, *smoothing),
        *(f"--distill-{option}", os.pathsep.join(map(str, paths))),
        *("--distill-alpha", str(distill.alpha), "--distill-temperature", str(distill.temperature)),
        *(("--distill-top", str(distill.top)) if distill.top else ()),
        *(("--distill-drop-rest",) if distill.rest is Rest.drop else ()),
        *(
            ("--distill-end-alpha", str(end), "--distill-end-updates", str(distill.end_updates))
            if end != distill.alpha
            else ()
        ),
    ]


def _optimizer(optimizer: OptimizerConfig) -> list[str]:
    """Return the settings of Adam and of the learning rate, which is warmed up from about 0 and then decays."""
    first, second = optimizer.betas
    return [
        *("--optimizer", "adam", "--adam-betas", f"({first}, {second})", "--adam-eps", str(optimizer.epsilon)),
        *("--weight-decay", str(optimizer.weight_decay), "--clip-norm", str(optimizer.clip_norm)),
        *("--lr", str(optimizer.learning_rate), "--warmup-updates", str(optimizer.warmup_updates)),
        *_schedule(optimizer),
    ]


def _schedule(optimizer: OptimizerConfig) -> list[str]:
    if optimizer.schedule is Schedule.linear:
        end = str(optimizer.decay_updates)
        return ["--lr-scheduler", "polynomial_decay", "--power", "1", "--total-num-update", end]
    return ["--lr-scheduler", "inverse_sqrt", "--warmup-init-lr", "1e-07"]


def _checkpoints(spec: TrainSpec, save_dir: Path) -> list[str]:
    """Return the options for saving checkpoints: by updates only, not at ends of epochs."""
    every, keep = spec.config.checkpoint.every, spec.config.checkpoint.keep
    return [
        *("--save-dir", str(save_dir), "--save-interval-updates", str(every), "--keep-interval-updates", str(keep)),
        *("--save-interval", _NEVER, "--no-epoch-checkpoints"),
        *(("--finetune-from-model", str(spec.init_from)) if spec.init_from else ()),
        *_moving_average(spec.config),
    ]


def _moving_average(config: TrainConfig) -> list[str]:
    """Return the flags of a moving average of the weights that starts at the end of the warm-up."""
    if not config.checkpoint.ema:
        return []
    return [
        *("--store-ema", "--ema-decay", str(config.checkpoint.ema)),
        *("--ema-start-update", str(config.optimizer.warmup_updates)),
        *(() if config.precision is Precision.fp32 else ("--ema-fp32",)),
    ]


def _validation(spec: TrainSpec) -> list[str]:
    """Return the options for validation: by loss, and optionally by greedy BLEU on plain text."""
    if not spec.has_dev:
        return ["--disable-validation"]
    flags = ["--validate-interval", _NEVER, "--validate-interval-updates", str(validated_every(spec.config))]
    # On a CPU, greedy decoding takes a third less time so. A GPU's memory was measured for batches of training.
    size = spec.max_tokens * (4 if spec.device == "cpu" else 1)
    flags += ["--max-tokens-valid", str(max(size, spec.max_pieces + 1))]
    if validated_on(spec.config) is Metric.bleu:
        flags += ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
    if not spec.config.validate_bleu:
        return flags
    # max_len_a would make the longest output depend on the longest source of the batch.
    decoding = {"beam": 1, "max_len_a": 0, "max_len_b": spec.max_pieces}
    return [
        *flags,
        *("--eval-bleu", "--eval-bleu-args", json.dumps(decoding), "--eval-bleu-detok", "kd_pieces"),
        *("--eval-bleu-detok-args", json.dumps({"vocabulary": str(spec.vocabulary)})),
    ]


def validated_every(config: TrainConfig) -> int:
    """Return the number of updates between two validations."""
    return config.checkpoint.validate_every or config.checkpoint.every


def validated_on(config: TrainConfig) -> Metric:
    """Return the metric that ranks checkpoints: the setting, or the loss if BLEU is not measured."""
    return config.checkpoint.metric if config.validate_bleu else Metric.loss


def _devices(spec: TrainSpec) -> list[str]:
    flags = ["--cpu"] if spec.device == "cpu" else []
    if spec.config.precision is Precision.fp16:
        flags += ["--fp16"]
    if spec.world_size > 1:
        # Every process reads the checkpoint itself: fairseq would broadcast it in a pickle that torch refuses.
        flags += ["--distributed-world-size", str(spec.world_size), "--load-checkpoint-on-all-dp-ranks"]
        flags += ["--distributed-backend", "nccl" if spec.device == "cuda" else "gloo"]
    return flags


def readable(flags: list[str]) -> str:
    """Return the options, one per line, for `train.flags`."""
    lines: list[str] = []
    for flag in flags:
        if flag.startswith("--") or not lines or not lines[-1].startswith("--"):
            lines.append(flag)
        else:
            lines[-1] += " " + (json.dumps(flag) if " " in flag or '"' in flag else flag)
    return "\n".join(lines) + "\n"
