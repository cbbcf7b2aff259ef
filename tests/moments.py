"""Random moments at which tests kill processes."""

from __future__ import annotations

import os
import random
import secrets

VARIABLE = "KD_TEST_MOMENTS"


def random_moments() -> random.Random:
    """Return a generator with a new seed, or with that of the variable KD_TEST_MOMENTS.

    The seed is printed; pytest shows it where the test fails.
    """
    seed = int(os.environ.get(VARIABLE) or secrets.randbits(32))
    print(f"The same moments again: {VARIABLE}={seed}")
    return random.Random(seed)
