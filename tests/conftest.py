"""Guards what all tests stand on: that those of one group share a worker, and with it what is made once for them."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.tiny_model"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """pytest 9.2 ignores the groups of pytest-xdist 3.8 in silence: whole recipes then run once for each worker."""
    if getattr(config.option, "loadgroup", False):
        lost = [item.nodeid for item in items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if lost:
            raise pytest.UsageError(f"pytest-xdist does not group tests with pytest {pytest.__version__}: {lost[0]}")
