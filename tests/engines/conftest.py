"""Trainings of engines run as on an older CPU than the machine's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.older_cpu import older_cpu


@pytest.fixture(scope="module", autouse=True)
def trainings_on_an_older_cpu() -> Iterator[None]:
    """Set the instructions that the processes of these tests use; see `older_cpu`."""
    with older_cpu():
        yield
