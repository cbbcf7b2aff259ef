"""An older CPU than the machine's own, for tests whose results depend on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# The instructions that torch uses here -> those of an older CPU. Results differ in the last bits, and trainings end
# with other weights.
OLDER = {"AVX512": "avx2", "AVX2": "default"}


@contextmanager
def older_cpu() -> Iterator[None]:
    """Start processes as on an older CPU; keep a setting of the user's.

    The tiny model and the tests of engines train like this, and whole recipes (tests/system) on the CPU as it is. So CI
    notices a test that passes only with the weights of one CPU, at no cost: nothing runs twice, and only element-wise
    operations are affected. This process keeps its own instructions, whichever test comes first.
    """
    import torch

    own = torch.backends.cpu.get_cpu_capability()  # torch reads the variable now, and not again
    with pytest.MonkeyPatch.context() as patch:
        if own in OLDER and "ATEN_CPU_CAPABILITY" not in os.environ:
            patch.setenv("ATEN_CPU_CAPABILITY", OLDER[own])
        yield
