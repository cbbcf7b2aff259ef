"""One training process: fairseq's trainer with kd's checkpoints and signals, started by `training.py` or torchrun.

`python -m kd.engines.fairseq train --spec FILE`, where FILE is what `training.py` wrote. Exit status: 0 trained to the
end, 75 stopped by a signal after a checkpoint was saved, 2 with a line `kd-user-error` for a mistake that the user can
correct.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER, UserError
from kd.base.faults import LASTING, PASSING
from kd.base.peaks import peak_flops
from kd.base.processes import die_with_parent
from kd.engines.fairseq import measures
from kd.engines.fairseq.precision import check_gpu, keep_fp32_weights, use_tf32
from kd.engines.fairseq.saving import SaveCheckpoint
from kd.engines.fairseq.watch import ENDED, Watch, install

USER_ERROR = "kd-user-error "  # a line that starts so carries a UserError as JSON
DISK_ERROR = "kd-disk-error "  # the same of an OSError: its number and path
STOPPED = "stopped by a signal at update %d"
START_SECONDS = 900.0  # that loading, building and meeting the other processes may take at least
RANK_LOG = "train.rank-{rank}.log"  # what every process but the first writes to

logger = logging.getLogger("kd.train")


def main(argv: list[str]) -> None:
    """Train according to the specification in a file."""
    parser = argparse.ArgumentParser(prog="python -m kd.engines.fairseq train", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="JSON file that kd.engines.fairseq.training wrote")
    path: Path = parser.parse_args(argv).spec
    spec = json.loads(path.read_text("utf-8"))
    _write_to_own_log(path.parent)
    signals: list[int] = []  # that asked this process to save and leave
    for number in (signal.SIGTERM, signal.SIGUSR1):  # at once: importing takes its time
        signal.signal(number, lambda received, _: signals.append(received))
    try:
        _train(spec, signals)
    except UserError as error:
        print(USER_ERROR + json.dumps([error.problem, error.hint]), flush=True)
        sys.exit(EXIT_USER)
    except OSError as error:
        if error.errno not in (*LASTING, *PASSING):
            raise
        print(DISK_ERROR + json.dumps([error.errno, str(error.filename or spec["folder"])]), flush=True)
        raise


def _write_to_own_log(folder: Path) -> None:
    """Redirect the output of every process except the first to its own log, where its last error is easy to find."""
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        log = os.open(folder / RANK_LOG.format(rank=rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log, stream.fileno())


def _train(spec: dict[str, Any], signals: Sequence[int]) -> None:
    die_with_parent(os.getppid())
    beat = _Heartbeat(60 * spec["stall_minutes"])
    from kd.engines.fairseq import compat

    compat.install()
    from kd.engines.fairseq import fused, validation

    fused.install()
    validation.install()
    import torch
    from fairseq import checkpoint_utils, options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.distributed import utils as distributed
    from fairseq.trainer import Trainer

    fairseq_train: Any = importlib.import_module("fairseq_cli.train")
    if spec["device"] != "cpu":
        check_gpu(spec["precision"], torch)
        if warning := use_tf32(spec["precision"], torch):
            logger.warning(warning)
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=spec["flags"])
    cfg = convert_namespace_to_omegaconf(arguments)
    cfg.common.bf16 = spec["precision"] == "bf16"
    cfg.distributed_training.device_id = int(os.environ.get("LOCAL_RANK", "0"))
    watch = Watch(higher_is_better=cfg.checkpoint.maximize_best_checkpoint_metric, beat=beat, **spec["ending"])
    save = SaveCheckpoint(watch, **spec["keep"])
    install(Trainer, watch)
    keep_fp32_weights(Trainer)
    stopping = Stopping(fairseq_train.validate_and_save, watch, save, signals, cfg.dataset.disable_validation)
    fairseq_train.validate_and_save = stopping.after_update
    fairseq_train.validate = stopping.saved_first(fairseq_train.validate)
    Trainer.valid_step = stopping.interruptible(Trainer.valid_step)
    checkpoint_utils.save_checkpoint = save
    checkpoint_utils.load_checkpoint = _going_on(checkpoint_utils.load_checkpoint, watch, stopping)
    measures.install(fairseq_train, watch, _utilisation(spec, torch))
    distributed.call_main(cfg, fairseq_train.main)
    beat.stop()


def _utilisation(spec: dict[str, Any], torch: Any) -> measures.Utilisation | None:
    """Return the meter of model FLOPs utilisation; None if the cost of a token or the device's peak is unknown."""
    if spec["device"] == "cpu" or not spec["flops_per_token"]:
        return None
    peak = peak_flops(torch.cuda.get_device_name(), spec["precision"])
    return measures.Utilisation(spec["flops_per_token"], peak * spec["devices"]) if peak else None


class _Heartbeat:
    """End a process after a number of seconds without progress (0: never), with a traceback of each thread.

    It uses the interpreter's own watchdog, which works even if a thread hangs in C code, for instance waiting for a
    dead rank. If a process itself is suspended, torchrun ends it once another process has noticed.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        if seconds:
            faulthandler.dump_traceback_later(max(seconds, START_SECONDS), exit=True)

    def __call__(self) -> None:
        if self._seconds:
            faulthandler.dump_traceback_later(self._seconds, exit=True)

    def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def _going_on(load_checkpoint: Any, watch: Watch, stopping: Stopping) -> Any:
    """Wrap fairseq's function: repeat an interrupted validation, and exit if the training is complete."""

    def load(cfg: Any, trainer: Any, **options: Any) -> Any:
        loaded = load_checkpoint(cfg, trainer, **options)
        should_stop = trainer.get_num_updates() and watch.undone and stopping.validate_now(trainer, *loaded)
        reason = trainer.get_num_updates() and watch.reason_to_end()
        complete = trainer.get_num_updates() >= (trainer.cfg.optimization.max_update or math.inf)
        if reason or should_stop or complete:
            if reason:
                logger.info(ENDED + reason)
            logging.shutdown()
            sys.exit(0)
        return loaded

    return load


class _StopValidation(Exception):
    """A signal reached one of the processes before or during a validation."""


class Stopping:
    """The work after each update: saving and validating by fairseq, early stopping, and exiting on a signal.

    On SIGTERM or SIGUSR1 a checkpoint is saved after the current update, and the process exits with 75. A checkpoint is
    also saved before each validation, so a process that is killed during validation loses no update. An interrupted
    validation is repeated when the training resumes.
    """

    def __init__(
        self, validate_and_save: Any, watch: Watch, save: SaveCheckpoint, signals: Sequence[int], without_dev: bool
    ) -> None:
        self._inner = validate_and_save
        self._without_dev = without_dev
        self._watch = watch
        self._save = save
        self._signals = signals  # received so far
        self._end_of_epoch = False
        self._saved = -1  # the update of the last checkpoint that awaits its validation

    def after_update(
        self, cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any, end_of_epoch: bool
    ) -> tuple[list[Any], bool]:
        """Replace fairseq's function `validate_and_save`."""
        self._watch.beat()
        self._end_of_epoch = end_of_epoch
        reason = self._watch.reason_to_end()
        if reason:  # so that fairseq validates and saves as at the last update
            cfg.optimization.max_update = trainer.get_num_updates()
        at_the_end = trainer.get_num_updates() >= cfg.optimization.max_update
        # fairseq validates at each checkpoint.
        off_turn = trainer.get_num_updates() % self._watch.every and not at_the_end
        cfg.dataset.disable_validation = self._without_dev or bool(off_turn)
        try:
            if _any_rank(bool(self._signals), trainer):
                raise _StopValidation
            values, should_stop = self._inner(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        except _StopValidation:
            self._save_unvalidated(cfg, trainer, epoch_itr)
            self._leave(trainer)
        self._watch.beat()
        self._watch.validated(trainer.get_num_updates(), values[0])
        reason = reason or self._watch.reason_to_end()
        if reason:
            logger.info(ENDED + reason)
        should_stop = should_stop or reason is not None
        if not should_stop and _any_rank(bool(self._signals), trainer):
            self._save(cfg.checkpoint, trainer, epoch_itr, None)
            self._leave(trainer)
        return values, should_stop

    def saved_first(self, validate: Any) -> Any:
        """Wrap fairseq's function `validate`: save a checkpoint first."""

        def saved_validate(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any) -> Any:
            self._save_unvalidated(cfg, trainer, epoch_itr)
            with self._watch.validation():
                return validate(cfg, trainer, task, epoch_itr, subsets)

        return saved_validate

    def _save_unvalidated(self, cfg: Any, trainer: Any, epoch_itr: Any) -> None:
        """Save a checkpoint marked as not yet validated, unless that is saved already."""
        if self._saved == trainer.get_num_updates():
            return
        self._watch.undone = {"epoch": self._save.epoch(epoch_itr), "end_of_epoch": self._end_of_epoch}
        self._save(cfg.checkpoint, trainer, epoch_itr, None)
        self._watch.undone = {}
        self._saved = trainer.get_num_updates()

    def validate_now(self, trainer: Any, extra_state: Any, epoch_itr: Any) -> bool:
        """Repeat the validation that was interrupted after the last update. Return whether that ends the training."""
        undone, subsets = self._watch.undone, trainer.cfg.dataset.valid_subset.split(",")
        with self._save.as_read(undone["epoch"], extra_state["train_iterator"]):
            end = undone["end_of_epoch"]
            self._watch.undone = {}
            self._saved = trainer.get_num_updates()  # this checkpoint, which records the interruption
            return bool(self.after_update(trainer.cfg, trainer, trainer.task, epoch_itr, subsets, end)[1])

    def interruptible(self, valid_step: Any) -> Any:
        """Wrap the trainer's method: between two batches of a validation, react to signals."""

        def step(trainer: Any, *arguments: Any, **options: Any) -> Any:
            self._watch.beat()
            if _any_rank(bool(self._signals), trainer):
                raise _StopValidation
            return valid_step(trainer, *arguments, **options)

        return step

    def _leave(self, trainer: Any) -> None:
        """Exit after all processes have saved."""
        _wait_for_ranks(trainer)  # torchrun ends the others as soon as the first one leaves
        logger.info(STOPPED, trainer.get_num_updates())
        logging.shutdown()
        os._exit(EXIT_TRANSIENT)  # without waiting for what other threads and ranks still do


def _any_rank(asked: bool, trainer: Any) -> bool:
    """Return whether a signal reached any of the processes; all have to stop after the same update."""
    if trainer.data_parallel_world_size == 1:
        return asked
    import torch

    flag = torch.tensor([int(asked)], device=trainer.device)
    torch.distributed.all_reduce(flag)
    return bool(flag.item())


def _wait_for_ranks(trainer: Any) -> None:
    if trainer.data_parallel_world_size > 1:
        import torch

        torch.distributed.barrier()
