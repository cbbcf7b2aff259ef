"""Submitting: everything once, whatever dies when; against Slurm commands that only write down what they are told."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kd.base.errors import TransientError, UserError
from kd.launch.launcher import Failure
from kd.launch.slurm import client, launcher, queue
from kd.launch.slurm.launcher import SlurmLauncher
from kd.launch.slurm.records import Records
from kd.pipeline.model import Task
from kd.pipeline.store import Store
from kd.recipe.schema import ResourcesConfig
from tests.launch.chain import ROOT, Chain
from tests.launch.slurm_stub import Stub, settings
from tests.pipeline import dummies

CHAIN = (
    {"name": "first", "workers": 3, "steps": 1},
    {"name": "second", "steps": 1, "inputs": {"many": {"x": "first"}}},
)


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    return Stub(tmp_path / "stub").install(monkeypatch)


def launch(chain: Chain, tasks: Sequence[Task] | None = None, **changes: object) -> list[Failure]:
    """Submit a chain, or some of its tasks."""

    def here(tasks: Sequence[Task]) -> list[Failure]:
        for task in tasks:
            dummies.run(task, chain.store)
        return []

    made = SlurmLauncher(settings(chain, **changes), chain.store, here)
    return made.launch(list(chain.plan.tasks()) if tasks is None else tasks)


def test_everything_is_submitted_at_once_with_ids_that_are_written_down(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    assert launch(chain) == []
    first, second = stub.submissions()
    assert (first["array"], first.get("dependency")) == ("0-2", None)
    assert (second["array"], second["dependency"]) == ("0", "afterok:101")
    known = Records(chain.run).read()
    assert [item.comment for item in known] == [first["comment"], second["comment"]]
    assert [item.job for item in known] == ["101", "102"]
    assert first["comment"] != second["comment"]
    assert all(Path(item["script"]).is_file() for item in (first, second))
    assert known[0].elements[2].task == "first/worker-2"


def test_what_is_queued_is_not_submitted_again_and_waited_for(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain, [task for task in chain.plan.tasks() if task.stage.name == "first"])
    launch(chain)
    launch(chain)
    assert len(stub.submissions()) == 2
    assert stub.submissions()[1]["dependency"] == "afterok:101_0:101_1:101_2"
    stub.change_states("PENDING", "FAILED")
    launch(chain)
    assert len(stub.submissions()) == 4


def test_other_settings_are_submitted_beside_what_is_queued(tmp_path: Path, stub: Stub) -> None:
    launch(Chain(tmp_path, *CHAIN))
    launch(Chain(tmp_path, {**CHAIN[0], "text": "another"}, CHAIN[1]))
    assert len(stub.submissions()) == 4


def test_what_is_finished_is_not_submitted(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    dummies.run(chain.plan.task("first", "worker-1"), chain.store)
    launch(chain)
    assert stub.submissions()[0]["array"] == "0,2"


def test_a_death_between_sbatch_and_its_record_is_found_out(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain)
    records = Records(chain.run)
    for item in records.read():
        records.write(replace(item, job=None))
    launch(chain)
    assert len(stub.submissions()) == 2
    assert [item.job for item in records.read()] == ["101", "102"]


def test_a_death_before_sbatch_is_found_out_too(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain)
    records = Records(chain.run)
    first = records.read()[0]
    records.write(replace(first, job=None))
    (stub.folder / "queue").write_text("")
    launch(chain)
    assert len(stub.submissions()) == 4
    assert first.id not in {item.id for item in records.read()}


def test_a_record_by_a_clock_that_is_ahead_holds_nothing_up(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain)
    records = Records(chain.run)
    records.write(replace(records.read()[0], job=None, written=time.time() + 3600))
    (stub.folder / "queue").write_text("")
    monkeypatch.setattr(launcher, "PAUSE_SECONDS", None)  # it cannot wait so long
    launch(chain)
    assert len(stub.submissions()) == 4


def test_killed_at_any_moment_the_next_submits_the_rest_once(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *({"name": f"stage{number}", "steps": 1} for number in range(6)))
    code = (
        "import sys; from pathlib import Path; from tests.launch.chain import Chain\n"
        "from tests.launch.test_slurm_launcher import launch, launcher\n"
        "launcher.IN_FLIGHT_SECONDS = 0.2; launch(Chain(Path(sys.argv[1])))"
    )
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", code, str(tmp_path)]
    for killed_after in range(1, 6, 2):  # sbatches
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(stub.submissions()) < killed_after and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.wait()
    launch(chain)
    listed = [line.split("|")[-1] for line in (stub.folder / "queue").read_text().split("\n")[:-1]]
    known = Records(chain.run).read()
    assert sorted(listed) == sorted(item.comment for item in known)
    assert sorted(item.stage for item in known) == [f"stage{number}" for number in range(6)]


def test_two_at_once_submit_once(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    threads = [threading.Thread(target=launch, args=(chain,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stub.submissions()) == 2


def test_what_slurm_refuses_is_told_and_forgotten(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    (stub.folder / "refuse").write_text("sbatch: error: invalid partition specified: none\n")
    with pytest.raises(UserError, match="invalid partition specified: none"):
        launch(chain)
    assert Records(chain.run).read() == []


def test_a_submission_that_got_no_answer_is_looked_up_before_it_is_repeated(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    (stub.folder / "silent").touch()
    launch(chain)
    assert len(stub.submissions()) == 2
    assert [item.job for item in Records(chain.run).read()] == ["101", "102"]


BANNER = "echo -----------\necho '     Welcome to the Supercomputer, 24'\n"  # as wrappers of sbatch print on some sites


@pytest.mark.parametrize("cluster", ["", ";hpc1"])
def test_the_job_id_is_read_below_a_banner(tmp_path: Path, stub: Stub, cluster: str) -> None:
    sbatch = stub.folder / "bin" / "sbatch"
    sbatch.write_text(sbatch.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{BANNER}") + f'echo "$id{cluster}"\n')
    launch(Chain(tmp_path, *CHAIN))
    assert [item.get("dependency") for item in stub.submissions()] == [None, "afterok:101"]


@pytest.mark.parametrize("comments", ["kept", "overwritten"])
def test_where_sbatch_prints_no_id_the_job_is_found_by_its_comment(tmp_path: Path, stub: Stub, comments: str) -> None:
    sbatch = stub.folder / "bin" / "sbatch"
    text = sbatch.read_text().replace("echo $id\n", "echo Submitted, have a nice day\n")
    sbatch.write_text(text if comments == "kept" else text.replace("|$comment", "|by the site"))
    chain = Chain(tmp_path, *CHAIN)
    if comments == "kept":
        launch(chain)
        assert [item.job for item in Records(chain.run).read()] == ["101", "102"]
    else:
        with pytest.raises(UserError, match=r"no job id\. Its output: Submitted, have a nice day"):
            launch(chain)
        assert len(stub.submissions()) == 1, "it was submitted again although sbatch had accepted it"
        assert [item.job for item in Records(chain.run).read()] == [None]


def test_variables_for_other_jobs_are_named_and_dropped(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SBATCH_CONSTRAINT", "v100")
    sbatch = stub.folder / "bin" / "sbatch"
    sbatch.write_text(sbatch.read_text() + 'echo "$SBATCH_CONSTRAINT" >"$STUB/seen"\n')
    launch(Chain(tmp_path, *CHAIN))
    assert (stub.folder / "seen").read_text() == "\n"
    assert "These variables have no effect on kd's jobs: SBATCH_CONSTRAINT." in capsys.readouterr().err


def test_where_the_controller_is_down_nothing_is_lost(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    (stub.folder / "refuse").write_text(
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller\n"
    )
    with pytest.raises(TransientError, match="Unable to contact"):
        launch(chain)
    assert len(stub.submissions()) == launcher.TRIES
    (stub.folder / "refuse").unlink()
    (stub.folder / "sbatch").unlink()
    launch(chain)
    assert len(stub.submissions()) == 2


def test_what_needs_a_network_runs_here_where_the_nodes_have_none(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, {"name": "fetch", "kind": "fetch"}, {**CHAIN[1], "inputs": {"many": {"x": "fetch"}}})
    launch(chain, online=False)
    assert chain.store.paths(chain.plan.task("fetch", "worker-0")).is_published()
    assert [Path(item["script"]).name.split(".")[0] for item in stub.submissions()] == ["second"]
    assert "dependency" not in stub.submissions()[0]


@pytest.mark.parametrize(
    ("words", "raised", "told"),
    [
        # As Slurm 22.05 says it on a computer without a configuration, and where the controller is down.
        (
            "squeue: error: fetch_config: DNS SRV lookup failed",
            UserError,
            "No Slurm can be reached from here .*failed.*login",
        ),
        ("slurm_load_jobs error: Unable to contact slurm controller", TransientError, "Unable to contact"),
    ],
)
def test_slurm_is_asked_before_anything_is_downloaded(
    tmp_path: Path, stub: Stub, words: str, raised: type[Exception], told: str
) -> None:
    chain = Chain(tmp_path, {"name": "fetch", "kind": "fetch"}, {**CHAIN[1], "inputs": {"many": {"x": "fetch"}}})
    (stub.folder / "bin" / "squeue").write_text(f"#!/bin/bash\necho '{words}' >&2\nexit 1\n")
    with pytest.raises(raised, match=told):
        launch(chain, online=False)
    assert not chain.store.paths(chain.plan.task("fetch", "worker-0")).is_published()


def test_a_class_that_reaches_the_internet_collects_in_a_job(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, {"name": "fetch", "kind": "fetch"}, {**CHAIN[1], "inputs": {"many": {"x": "fetch"}}})
    launch(chain, online=False, resources={"light": ResourcesConfig(cores=2, hours=1.5, online=True)})
    assert [Path(item["script"]).name.split(".")[0] for item in stub.submissions()] == ["fetch", "second"]
    assert not chain.store.paths(chain.plan.task("fetch", "worker-0")).is_published()


def test_what_stands_on_a_download_that_failed_is_not_submitted(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(
        tmp_path, {"name": "fetch", "kind": "fetch"}, {**CHAIN[1], "inputs": {"many": {"x": "fetch"}}}, CHAIN[0]
    )
    made = SlurmLauncher(
        settings(chain, online=False), chain.store, lambda tasks: [Failure(tasks[0], "no host", Path("log"), 2)]
    )
    failures = made.launch(list(chain.plan.tasks()))
    assert [(failure.task.full_name, failure.exit_status) for failure in failures] == [
        ("fetch/worker-0", 2),
        ("second/worker-0", 0),
    ]
    assert [Path(item["script"]).name.split(".")[0] for item in stub.submissions()] == ["first"]


def test_a_class_that_the_machine_does_not_know_is_told_before_anything_is_submitted(
    tmp_path: Path, stub: Stub
) -> None:
    with pytest.raises(UserError, match=r"machine\.resources\.light"):
        launch(Chain(tmp_path, *CHAIN), resources={})
    assert stub.submissions() == []


def test_cancelling_takes_this_runs_jobs_and_no_others(tmp_path: Path, stub: Stub) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    chain = Chain(tmp_path / "one", *CHAIN)
    launch(Chain(tmp_path / "other", *CHAIN))
    launch(chain)
    assert queue.cancel(chain.run, print) == {
        "103": ["first/worker-0", "first/worker-1", "first/worker-2"],
        "104": ["second/worker-0"],
    }
    assert sorted(stub.cancelled()) == ["103", "104"]


LIMIT = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS "
    "policy (job submit limit, user's size and/or time limits)\n"
)  # as Slurm 22.05 prints it


def limited(stub: Stub, jobs: int) -> None:
    """Let sbatch refuse jobs while `jobs` of them wait or run."""
    sbatch = stub.folder / "bin" / "sbatch"
    count = "$(cat \"$STUB/queue\" 2>/dev/null | grep -c '|PENDING|')"
    full = f'[ "{count}" -lt {jobs} ] || {{ printf %s {shlex.quote(LIMIT)} >&2; exit 1; }}\n'
    sbatch.write_text(sbatch.read_text().replace("#!/bin/bash\n", f"#!/bin/bash\n{full}"))


def test_where_the_site_accepts_no_more_jobs_the_rest_is_submitted_by_the_same_command(
    tmp_path: Path, stub: Stub
) -> None:
    chain = Chain(tmp_path, *({"name": f"stage{number}", "steps": 1} for number in range(5)))
    limited(stub, 3)
    with pytest.raises(TransientError, match=r"AssocMaxSubmitJobLimit.* Not submitted yet: 2 tasks.*wait=true"):
        launch(chain)
    assert len(Records(chain.run).read()) == 3
    for name in ("stage0", "stage1", "stage2"):
        dummies.run(chain.plan.task(name, "worker-0"), chain.store)
    stub.change_states("PENDING", "COMPLETED")
    launch(chain)
    assert [item.stage for item in Records(chain.run).read()] == [f"stage{number}" for number in range(5)]


def test_waiting_submits_the_rest_except_the_tasks_whose_inputs_have_failed(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    independent = ({"name": f"stage{number}", "steps": 1} for number in range(3))
    chain = Chain(tmp_path, *CHAIN, *independent)  # first (3 tasks), second (reads first), stage0 …
    limited(stub, 3)
    rounds = []

    def finish(seconds: float) -> None:
        if seconds != launcher.LIMIT_SECONDS:  # of another thread
            return
        rounds.append(len(stub.submissions()))
        if len(rounds) == 1:  # all of the first stage fails
            stub.change_states("PENDING", "FAILED")

    monkeypatch.setattr(launcher.time, "sleep", finish)
    made = SlurmLauncher(settings(chain), chain.store, lambda _tasks: [], wait=True)
    assert made.launch(list(chain.plan.tasks())) == []
    assert rounds == [1]
    assert [item.stage for item in Records(chain.run).read()] == ["first", "stage0", "stage1", "stage2"]
    assert "Not submitted, because inputs failed (see kd status): 1 task." in capsys.readouterr().err


def test_an_array_that_exceeds_the_sites_limit_is_not_waited_for(tmp_path: Path, stub: Stub) -> None:
    limited(stub, 0)
    with pytest.raises(UserError, match=r"waiting does not help.*machine\.max_array"):
        launch(Chain(tmp_path, *CHAIN))


def test_jobs_of_a_removed_run_folder_are_cancelled(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain)
    shutil.rmtree(chain.run.folder)
    listed = (
        f"101|0|PENDING|kd:0123456789abcdef|small:first\x1f{chain.run.folder}\n"
        f"101|1|RUNNING|kd:0123456789abcdef|small:first\x1f{chain.run.folder}\n"
        f"102|0|PENDING|kd:0123456789abcdef|small:first\x1f{chain.run.folder}-other\n"
        f"103|0|PENDING|mine|small:first\x1f{chain.run.folder}\n"
    )
    (stub.folder / "list").write_text(listed)
    (stub.folder / "bin" / "squeue").write_text('#!/bin/bash\ncat "$STUB/list"\n')
    assert queue.cancel(chain.run, print) == {"101": ["small:first/0", "small:first/1"]}
    assert stub.cancelled() == ["101"]


def test_queued_configs_are_in_reach(tmp_path: Path, stub: Stub) -> None:
    chain = Chain(tmp_path, *CHAIN)
    launch(chain)
    known = Records(chain.run)
    frozen = chain.run.freeze({}, chain.plan)
    for item in known.read():
        known.write(replace(item, frozen=frozen))
    places = {str(chain.store.paths(task).final) for task in chain.plan.tasks()}
    assert queue.reached(chain.run, chain.store) == places
    stub.change_states("PENDING", "CANCELLED")
    assert queue.reached(chain.run, chain.store) == set()
    (stub.folder / "bin" / "squeue").write_text("#!/bin/bash\nexit 1\n")  # nobody knows: then everything counts
    assert queue.reached(chain.run, Store(chain.store.root)) == places


def test_a_row_of_the_queue_is_read_whatever_stands_in_others_comments(tmp_path: Path, stub: Stub) -> None:
    (stub.folder / "queue").write_text(
        "7|N/A|RUNNING|None|2026-11-21T18:00:00|node1|0:01|1:00|(null)|a | comment\nof two lines\n"
        "8|12|PENDING|Dependency|N/A||0:00|1:00|afterok:7(unfulfilled)|kd:1\n"
    )
    plain, element = client.queue()
    assert (plain.name, plain.active, plain.comment, plain.nodes) == ("7", True, "a | comment", "node1")
    assert (element.name, element.reason, element.start, element.comment) == ("8_12", "Dependency", "", "kd:1")
