"""The tiny recipe, run once for all tests that look at a finished run."""

from __future__ import annotations

import pytest
from runs_of_tiny import Workplace, new_workplace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the tiny recipe has run once, uninterrupted."""
    place = new_workplace(tmp_path_factory.mktemp("finished"))
    place.kd("run")
    return place
