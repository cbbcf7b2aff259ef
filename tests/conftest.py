"""Order and grouping of all tests, and the check that no test changes a fixture that it shares with others.

Settings of a run:
    --randomly-seed=7              the order of an earlier run, whose seed stands in its last lines
    -p no:randomly                 the order of the files
    KD_TEST_SEED=2                 other models: trains the tiny model (tests/tiny_model.py) with another seed
    ATEN_CPU_CAPABILITY=default    another CPU: the instructions that torch uses (default, avx2, avx512)
    KD_TEST_CHAT_SERVER=transformers   `transformers serve` as the server of a real language model, in place of the
                                   small one of tests/chat_model.py; it needs accelerate, fastapi, openai, pydantic
    KD_TEST_MOMENTS=5              the moments at which an earlier run killed processes
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.shared_fixtures import SharedFixtures

pytest_plugins = ["tests.tiny_model", "tests.chat_servers", "tests.onnx_libraries"]

LONGEST = ("slurm", "image", "slurm-faults")  # groups that share one cluster or one image
SHARED = pytest.StashKey[SharedFixtures]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the check of shared fixtures."""
    config.stash[SHARED] = SharedFixtures()
    config.pluginmanager.register(config.stash[SHARED])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each file run in one worker, which makes its fixtures once, and start those that take longest.

    pytest-randomly has shuffled the tests before. The sort keeps its order among tests of about equal length: a long
    group that started last would run alone at the end.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0].removesuffix(".py")))
    items.sort(key=_urgency)


def _urgency(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    if group and group.args[0] in LONGEST:
        return 0
    if item.get_closest_marker("system"):
        return 1
    return 2 if "spec" in getattr(item, "fixturenames", ()) else 3


@pytest.hookimpl(specname="pytest_collection_modifyitems", trylast=True)
def require_groups(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse pytest 9.2, which ignores the groups of pytest-xdist 3.8: whole recipes would run once for each worker."""
    if getattr(config.option, "loadgroup", False):
        lost = [item.nodeid for item in items if "@" not in item.nodeid]
        if lost:
            raise pytest.UsageError(f"pytest-xdist does not group tests with pytest {pytest.__version__}: {lost[0]}")


@pytest.fixture(autouse=True)
def shared_fixtures_are_read_only(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that changed a file of a session's or module's fixture. It is set up first and torn down last."""
    yield
    changes = request.config.stash[SHARED].changes(list(request.fixturenames))
    if changes:
        pytest.fail("The test changed shared fixtures; it needs a copy of its own:\n" + "\n".join(changes[:20]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the order, which `make test ARGS="-p randomly --randomly-seed=…"` repeats."""
    if config.pluginmanager.hasplugin("randomly") and config.getoption("randomly_reorganize"):
        seed = config.getoption("randomly_seed")
        terminalreporter.write_line(f'Random order; the same again: make test ARGS="--randomly-seed={seed}"')


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Shorten the ids of long parameters: a test's id is in the environment of its processes, which has a limit."""
    if isinstance(val, str | bytes) and len(val) > 200:
        return f"{argname}-{len(val)}-{zlib.crc32(val if isinstance(val, bytes) else val.encode()):08x}"
    return None
