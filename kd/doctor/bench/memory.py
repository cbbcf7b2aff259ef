"""Check whether training continues after the GPU's memory has run out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from kd.doctor.bench.setup import LONGEST, STUDENT, NotMeasured, Setup, Values
from kd.doctor.bench.training import settings
from kd.engines.fairseq.automatic import run_trial
from kd.models.files import DICTIONARY

_TOO_MUCH = 3  # times the largest micro-batch that is forecast to fit


def recovery(setup: Setup, trial: Callable[..., dict[str, Any]] = run_trial) -> Values:
    """Run a training step that is too large for the GPU, and halve it in the same process until one succeeds.

    `batch.max_tokens: auto` finds the micro-batch of a training in the same way.

    Returns: tried (tokens of each step; the last step succeeded), out_of_memory (number of failures).

    Raises:
        NotMeasured: The device is a CPU.
        RuntimeError: No step ran out of memory, or none succeeded.
    """
    if setup.memory is None:
        raise NotMeasured("It needs a GPU: on a CPU the system ends a process that takes too much memory.")
    precision = setup.precisions[0]
    size = _TOO_MUCH * setup.largest_micro_batch(settings(setup, STUDENT, precision), setup.memory)
    step = {
        "model": asdict(setup.size.models[STUDENT]),
        "dictionary": str(setup.folder / "vocabulary" / DICTIONARY),
        "precision": precision,
        "device": setup.torch_device,
    }
    request = {"what": "fit", "size": size, "smallest": LONGEST, "length": LONGEST, "spare": 0}
    answer = trial({**request, **step}, setup.threads)
    tried = [int(each) for each in answer["tried"]]
    if not answer["fits"]:
        raise RuntimeError(f"No step succeeded after the memory had run out: {tried} tokens were tried.")
    if len(tried) < 2:
        raise RuntimeError(f"A step of {size:,} tokens did not run out of memory.")
    return {"tried": tried, "out_of_memory": len(tried) - 1}
