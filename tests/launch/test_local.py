"""The local launcher, with tasks that are real processes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kd.base.errors import EXIT_TRANSIENT, EXIT_USER
from kd.base.lease import Lease
from kd.launch.environment import OFFLINE
from kd.launch.launcher import Failure, exit_status
from tests.launch.chain import Chain
from tests.pipeline.dummies import KINDS


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def overlap(one: tuple[float, float, int], other: tuple[float, float, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def most_at_once(spans: list[tuple[float, float, int]]) -> int:
    return max(sum(begin <= moment < end for begin, end, _ in spans) for moment, _, _ in spans)


# --- scheduling ----------------------------------------------------------------------------------------------------


def test_tasks_run_side_by_side_up_to_the_number_and_share_the_threads(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "workers": 5, "steps": 1, "seconds": 0.6})
    assert chain.launch(processes=2, threads=5) == []
    spans = chain.spans()
    assert len(spans) == 5 and most_at_once(list(spans.values())) == 2
    assert {threads for _, _, threads in spans.values()} == {2}  # 5 // 2
    assert all(chain.run.link_path(task).resolve() == chain.store.paths(task).final for task in chain.plan.tasks())
    before = chain.journal.read_text()
    assert chain.launch() == [] and chain.journal.read_text() == before


def test_upstream_comes_first_and_an_exclusive_one_is_alone_with_all_threads(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"name": "speed", "kind": "alone", "steps": 1, "seconds": 0.3, "inputs": {"many": {"x": "first"}}},
        {"name": "side", "workers": 3, "steps": 1, "seconds": 0.3, "inputs": {"many": {"x": "first"}}},
        {"name": "first", "workers": 2, "steps": 1, "seconds": 0.1},
    )
    assert chain.launch(processes=2, threads=4) == []
    spans = chain.spans()
    begins = {name: begin for name, (begin, _, _) in spans.items()}
    first_done = max(end for name, (_, end, _) in spans.items() if name.startswith("first"))
    assert all(begin > first_done for name, begin in begins.items() if not name.startswith("first"))
    alone = spans.pop("speed/worker-0")
    assert not any(overlap(alone, other) for other in spans.values())
    assert alone[2] == 4 and {threads for _, _, threads in spans.values()} == {2}


def test_after_is_an_order_and_no_need(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"name": "later", "after": ["slow"], "steps": 1},
        {"name": "anyway", "after": ["broken"], "steps": 1},
        {"name": "slow", "steps": 1, "seconds": 0.5},
        {"name": "broken", "mishap": "user"},
    )
    failures = chain.launch()
    assert [failure.task.full_name for failure in failures] == ["broken/worker-0"]
    spans_journal = chain.journal.read_text()
    assert spans_journal.index("end slow") < spans_journal.index("begin later")
    assert spans_journal.index("begin broken") < spans_journal.index("begin anyway")


# --- failures ------------------------------------------------------------------------------------------------------


def test_a_failure_stops_what_depends_on_it_and_nothing_else_and_all_are_told(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"name": "bad", "mishap": "user"},
        {"name": "worse", "mishap": "crash"},
        {"name": "good", "steps": 1},
        {"name": "after_bad", "inputs": {"one": {"x": "bad"}}},
        {"name": "after_that", "inputs": {"one": {"x": "after_bad"}}},
        {"name": "after_good", "inputs": {"one": {"x": "good"}}},
    )
    told = {failure.task.full_name: failure for failure in chain.launch()}
    assert {name: failure.message for name, failure in told.items()} == {
        "bad/worker-0": "The user erred. Mend it.",
        "worse/worker-0": "it was ended by signal 6 (Aborted)",
        "after_bad/worker-0": "not started, because bad/worker-0 failed",
        "after_that/worker-0": "not started, because after_bad/worker-0 failed",
    }
    assert "The user erred. Mend it." in told["bad/worker-0"].log.read_text()
    assert set(chain.told("end")) == {"good/worker-0", "after_good/worker-0"}
    assert told["bad/worker-0"].exit_status == EXIT_USER and exit_status(list(told.values())) == 1
    assert exit_status([told["bad/worker-0"], told["after_bad/worker-0"]]) == EXIT_USER


def test_a_failure_before_this_launch_is_not_told_as_this_ones(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "mishap": "user"})
    chain.launch()
    (failure,) = chain.launch(command=lambda *_: ["sh", "-c", "echo something else; exit 3"])
    assert (failure.message, failure.exit_status) == ("something else", 3)


def test_one_that_says_nothing_is_told_by_its_status(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    (failure,) = chain.launch(command=lambda *_: ["sh", "-c", "exit 3"])
    assert failure.message == "it ended with status 3"


def test_what_may_pass_is_tried_again_a_few_times(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "steps": 1}, {"name": "b", "steps": 1})

    def stumbling(times: int) -> Callable[..., list[str]]:
        def command(task: object, *_: object) -> list[str]:
            real = chain.command(task, "", Path())  # type: ignore[arg-type]
            tried = tmp_path / "tried"
            script = f'echo x >> "{tried}"; [ $(wc -l < "{tried}") -gt {times} ] || exit {EXIT_TRANSIENT}; exec "$@"'
            return ["sh", "-c", script, "sh", *real]

        return command

    assert chain.launch(command=stumbling(2), processes=1) == []
    (tmp_path / "tried").unlink()
    for task in chain.plan.tasks():
        chain.store.remove(chain.store.paths(task))
    failures = chain.launch(command=stumbling(99), processes=1)
    assert {failure.exit_status for failure in failures} == {EXIT_TRANSIENT} and len(failures) == 2
    assert exit_status(failures) == EXIT_TRANSIENT


def test_a_crash_after_publishing_is_no_failure(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "steps": 1})

    def command(task: object, *_: object) -> list[str]:
        return ["sh", "-c", '"$@"; exit 7', "sh", *chain.command(task, "", Path())]  # type: ignore[arg-type]

    assert chain.launch(command=command) == []


def test_logs_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "a").touch()
    (failure,) = chain.launch()
    assert isinstance(failure, Failure) and "File exists" in failure.message


# --- others --------------------------------------------------------------------------------------------------------


def test_it_waits_for_what_another_process_works_on(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"name": "a", "steps": 10, "seconds": 0.1},
        {"name": "b", "steps": 1, "inputs": {"one": {"x": "a"}}},
    )
    other = subprocess.Popen(chain.launch_command(), stderr=subprocess.DEVNULL)
    wait_for(lambda: chain.told("begin"))
    assert chain.launch() == []
    assert other.wait(20) == 0
    assert Counter(chain.told("end")) == {"a/worker-0": 1, "b/worker-0": 1}


def test_it_takes_up_what_another_gave_up(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "steps": 1})
    (task,) = chain.plan.tasks()
    held = Lease.acquire(chain.store.paths(task).lease)
    threading.Timer(1.0, held.release).start()
    assert chain.launch() == []
    assert chain.told("end") == ["a/worker-0"]


# --- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_ends_its_tasks_and_keeps_what_is_done(tmp_path: Path, number: signal.Signals) -> None:
    chain = Chain(tmp_path, {"name": "a", "kind": "resume", "workers": 2, "steps": 200, "seconds": 0.05})
    # Tests that run in the background of a shell inherit ignored signals, which kd respects.
    process = subprocess.Popen(
        chain.launch_command(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    wait_for(lambda: len(chain.told("begin")) == 2)
    wait_for(lambda: all((chain.store.paths(task).partial / "lines").exists() for task in chain.plan.tasks()))
    # Ctrl-C and a closing terminal reach every process of the group, a scheduler's SIGTERM perhaps ours alone.
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)
    assert process.wait(20) == 130
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert chain.told("end") == []
    assert all((chain.store.paths(task).partial / "lines").exists() for task in chain.plan.tasks())


def test_asked_twice_it_does_not_wait(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    script = "trap '' TERM; echo on; sleep 60 & wait; wait; sleep 60"
    code = (
        "import sys; from pathlib import Path; from tests.launch.chain import *; chain = Chain(Path(sys.argv[1]))\n"
        f"chain.launch(command=lambda *_: ['bash', '-c', {script!r}])"
    )
    command = [*chain.launch_command()[:3], "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    log = chain.run.log(next(chain.plan.tasks()))
    wait_for(lambda: log.exists() and log.read_text().endswith("on\n"))
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(10) == 1
    os.killpg(process.pid, signal.SIGKILL)  # the sleeps


def test_killed_outright_its_tasks_end_with_it(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "kind": "resume", "workers": 2, "steps": 200, "seconds": 0.05})
    process = subprocess.Popen(chain.launch_command(), stderr=subprocess.DEVNULL)
    wait_for(lambda: len(chain.told("begin")) == 2)
    process.kill()
    process.wait()
    # They leave no lease behind: they end as if they had been asked to, and are gone on with.
    wait_for(lambda: not any(chain.store.paths(task).lease.exists() for task in chain.plan.tasks()))
    assert chain.told("end") == []
    assert all((chain.store.paths(task).partial / "lines").exists() for task in chain.plan.tasks())


def test_a_failure_is_told_when_it_happens_and_explained_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chain = Chain(tmp_path, {"name": "a", "mishap": "user"})
    (failure,) = chain.launch()
    assert re.search(r"failed  a/worker-0 after .*: The user erred$", told := capfd.readouterr().err, re.MULTILINE)
    assert failure.message == "The user erred. Mend it." and failure.message not in told  # `kd run` says it at its end


def test_hangups_that_the_user_ignores_are_ignored(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a", "steps": 10, "seconds": 0.1})
    process = subprocess.Popen(
        ["nohup", *chain.launch_command()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: chain.told("begin"))
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(20) == 0


def test_killed_at_any_moment_the_next_completes_and_repeats_nothing_published(tmp_path: Path) -> None:
    chain = Chain(
        tmp_path,
        {"name": "a", "workers": 2, "steps": 2, "seconds": 0.1},
        {"name": "b", "kind": "resume", "steps": 4, "seconds": 0.1, "inputs": {"many": {"x": "a"}}},
        {"name": "c", "steps": 1, "inputs": {"one": {"x": "b"}}},
    )
    moments = random.Random(5)
    published: set[str] = set()
    for _ in range(6):
        began = len(chain.told("begin"))
        process = subprocess.Popen(chain.launch_command(), stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(0.3, 1.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not published & set(chain.told("begin")[began:])
        published = {task.full_name for task in chain.plan.tasks() if chain.store.paths(task).is_published()}
    began = len(chain.told("begin"))
    assert chain.launch() == []
    assert not published & set(chain.told("begin")[began:])
    for task in chain.plan.tasks():
        steps, text = task.stage.config.steps, task.stage.config.text
        lines = (chain.store.paths(task).final / "lines").read_text()
        assert lines == "".join(f"{step} {text} {task.name}\n" for step in range(steps))
    assert {path.name for path in chain.store.root.glob("*/*/*.partial")} == set()


def test_tasks_are_told_to_stay_offline_unless_their_kind_may_need_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    for online in (False, True):
        folder = tmp_path / str(online)
        folder.mkdir()
        chain = Chain(folder, {"name": "a"})
        for kind in KINDS.values():
            monkeypatch.setattr(kind, "network", online)
        chain.launch(command=lambda task, frozen, run, to=folder: ["sh", "-c", f"env >'{to}/env'; exit 2"])
        told = set((folder / "env").read_text().split("\n"))
        assert ("HF_HUB_OFFLINE=1" in told, "PIP_NO_INDEX=1" in told) == (not online, not online)
