"""One training process: fairseq's trainer with our checkpoints and signals. Started by `training.py` or by torchrun.

`python -m kd.engines.fairseq train --spec FILE`, where FILE is what `training.py` wrote. Exit status: 0 trained to the
end, 75 stopped by a signal after a checkpoint was saved, 2 with a line `kd-user-error` for what the user can mend.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from kd.engines.fairseq import checkpoints, measures
from kd.engines.fairseq.watch import ENDED, STATE, Watch, install
from kd.errors import EXIT_TRANSIENT, EXIT_USER, UserError
from kd.pipeline.processes import die_with_parent

USER_ERROR = "kd-user-error "  # a line that starts so carries a UserError as JSON
STOPPED = "stopped by a signal at update %d"

logger = logging.getLogger("kd.train")


def main(argv: list[str]) -> None:
    """Trains by the specification in a file."""
    parser = argparse.ArgumentParser(prog="python -m kd.engines.fairseq train", description=__doc__)
    parser.add_argument("--spec", type=Path, required=True, help="JSON file that kd.engines.fairseq.training wrote")
    spec = json.loads(parser.parse_args(argv).spec.read_text("utf-8"))
    try:
        _train(spec)
    except UserError as error:
        print(USER_ERROR + json.dumps([error.what, error.mend]), flush=True)
        sys.exit(EXIT_USER)


def _train(spec: dict[str, Any]) -> None:
    die_with_parent(os.getppid())
    from kd.engines.fairseq import compat

    compat.install()
    import torch
    from fairseq import checkpoint_utils, options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.distributed import utils as distributed
    from fairseq.trainer import Trainer

    fairseq_train: Any = importlib.import_module("fairseq_cli.train")
    _check_device(spec, torch)
    arguments = options.parse_args_and_arch(options.get_training_parser(), input_args=spec["flags"])
    cfg = convert_namespace_to_omegaconf(arguments)
    cfg.common.bf16 = spec["precision"] == "bf16"
    cfg.distributed_training.device_id = int(os.environ.get("LOCAL_RANK", "0"))
    watch = Watch(higher_is_better=cfg.checkpoint.maximize_best_checkpoint_metric, **spec["ending"])
    save = SaveCheckpoint(watch, **spec["keep"])
    checkpoint_utils.save_checkpoint = save
    checkpoint_utils.load_checkpoint = _over_if_it_was(checkpoint_utils.load_checkpoint, watch)
    fairseq_train.validate_and_save = _ending(fairseq_train.validate_and_save, watch)
    fairseq_train.validate_and_save = _stopping_on_signals(fairseq_train.validate_and_save, save)
    install(Trainer, watch)
    measures.install(fairseq_train, watch)
    distributed.call_main(cfg, fairseq_train.main)


def _check_device(spec: dict[str, Any], torch: Any) -> None:
    if spec["device"] != "cuda":
        return
    if not torch.cuda.is_available():
        raise UserError(
            "No CUDA device can be used on this machine.", "Set machine.device to cpu, or look at `nvidia-smi`."
        )
    if spec["precision"] == "bf16" and not torch.cuda.is_bf16_supported():
        raise UserError("This GPU has no bf16.", "Set precision to fp16 or fp32.")


class SaveCheckpoint:
    """Takes the place of fairseq's function `save_checkpoint`, which copies files as it goes.

    Each checkpoint has a number, also one at the end of an epoch; `checkpoint_last.pt` is a second name of the newest,
    given when that is whole on disk; older ones go after that, not before. keep_best: how many of the best by
    validation stay as well; keep_every: those of each so many updates stay, 0 for none.
    """

    best: float  # fairseq reads and sets it

    def __init__(self, watch: Watch, keep_best: int, keep_every: int) -> None:
        self._watch = watch
        self._keep_best = keep_best
        self._keep_every = keep_every

    def __call__(self, cfg: Any, trainer: Any, epoch_itr: Any, val_loss: float | None) -> None:
        """Saves; `val_loss` is the value of the validation that was made just before, if there was one."""
        from fairseq.logging import metrics

        folder = Path(cfg.save_dir)
        # Its BLEU counts are numpy arrays, which safe loading refuses; nothing reads these sums after a validation.
        metrics.reset_meters("valid")
        better = max if cfg.maximize_best_checkpoint_metric else min
        known = [float(val) for val in (getattr(self, "best", None), val_loss) if val is not None]
        if known:
            self.best = better(known)
        trainer.consolidate_optimizer()
        updates = trainer.get_num_updates()
        self._watch.validated(updates, val_loss)
        if not trainer.should_save_checkpoint_on_current_rank:
            return
        state = {
            "train_iterator": epoch_itr.state_dict(),
            "val_loss": None if val_loss is None else float(val_loss),
            STATE: self._watch.state(),
            **({"best": self.best} if known else {}),
        }
        path = folder / checkpoints.name(epoch_itr.epoch, updates)
        trainer.save_checkpoint(str(path), state)
        checkpoints.link(path, folder / checkpoints.LAST)
        best = checkpoints.best(self._watch.validations, self._watch.higher_is_better)[: self._keep_best]
        checkpoints.prune(
            folder, cfg.save_interval_updates, cfg.keep_interval_updates, best=best, always=self._keep_every
        )
        logger.info("saved %s", path.name)


def _over_if_it_was(load_checkpoint: Any, watch: Watch) -> Any:
    """Wraps fairseq's function: a training that had ended early when it was left off does not go on."""

    def load(cfg: Any, trainer: Any, **options: Any) -> Any:
        loaded = load_checkpoint(cfg, trainer, **options)
        if trainer.get_num_updates() and (reason := watch.reason_to_end()):
            logger.info(ENDED + reason)
            logging.shutdown()
            sys.exit(0)
        return loaded

    return load


def _ending(validate_and_save: Any, watch: Watch) -> Any:
    """Wraps what fairseq calls after each update: it ends the training where `watch` has a reason."""

    def after_update(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any, end_of_epoch: bool) -> Any:
        reason = watch.reason_to_end()
        if reason:  # so that fairseq validates and saves as it does at the last update
            cfg.optimization.max_update = trainer.get_num_updates()
        values, should_stop = validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        watch.validated(trainer.get_num_updates(), values[0])
        reason = reason or watch.reason_to_end()
        if reason:
            logger.info(ENDED + reason)
        return values, should_stop or reason is not None

    return after_update


def _stopping_on_signals(validate_and_save: Any, save: Any) -> Any:
    """Wraps what fairseq calls after each update: on SIGTERM or SIGUSR1 it saves and the process exits with 75."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _: asked.append(received))

    def after_update(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any, end_of_epoch: bool) -> Any:
        result = validate_and_save(cfg, trainer, task, epoch_itr, subsets, end_of_epoch)
        should_stop = result[1]
        if _any_rank(bool(asked), trainer) and not should_stop:
            save(cfg.checkpoint, trainer, epoch_itr, None)
            _wait_for_ranks(trainer)  # torchrun ends the others as soon as the first one leaves
            logger.info(STOPPED, trainer.get_num_updates())
            logging.shutdown()
            os._exit(EXIT_TRANSIENT)  # without waiting for what other threads and ranks still do
        return result

    return after_update


def _any_rank(asked: bool, trainer: Any) -> bool:
    """Whether a signal has reached any of the processes: all have to stop after the same update."""
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
