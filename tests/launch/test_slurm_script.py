"""Job scripts: what they ask for, and what they do when their task ends, by bash with stubs for Slurm's commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from kd.base.errors import UserError
from kd.launch.slurm.arrays import parts
from kd.launch.slurm.records import Records
from kd.launch.slurm.script import Script, output, quoted, render
from kd.pipeline.run import Run
from kd.recipe.schema import ResourcesConfig
from tests.launch.chain import Chain
from tests.launch.slurm_stub import Stub, settings

NASTY = [
    "plain",
    "a b",
    "it's",
    'say "x"',
    "$(touch hacked)",
    "`touch hacked`",
    "back\\slash",
    "50%A",
    "ä;&|<>*?#~!{}[]",
]


def script(chain: Chain, **changes: object) -> Script:
    """The script of a chain's first stage."""
    return render(parts(chain.plan.stages[0], 1001)[0], settings(chain, **changes))


def _options(gpus: int = 0, **options: object) -> dict[str, object]:
    """A machine whose light jobs have further options of sbatch."""
    return {"resources": {"light": ResourcesConfig(cores=1, hours=1, gpus=gpus, options=options)}}


def asked(made: Script) -> dict[str, str]:
    """The #SBATCH lines, unquoted where that is simple."""
    lines = re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", made.text, re.MULTILINE)
    return {name: value.strip('"') for name, value in lines}


class Node:
    """A folder where a script runs as on a node: srun runs what it is given, scontrol and squeue are written down."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stub = Stub(tmp_path / "stub")
        self.told = tmp_path / "told"
        commands = {
            "srun": 'while [[ $1 == -* ]]; do shift; done; exec env SLURM_NODEID=0 "$@"',
            "scontrol": f'echo "scontrol $*" >>{self.told}; [ "$1" != requeue ] || kill $PPID',
            "squeue": f'echo "squeue $*" >>{self.told}\n'
            'case "$*" in *%T*) echo Welcome; echo ${STATE:-RUNNING} ;; *) cat "$STUB/waits" ;; esac',
            "sbatch": f'echo "sbatch $*" >>{self.told}; echo "Welcome, 12 nodes"; echo "77;hpc1"',
        }
        for name, text in commands.items():
            (self.stub.folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
            (self.stub.folder / "bin" / name).chmod(0o755)

    def start(self, made: Script, folder: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Run a script as element 0 of the array job 12."""
        path = folder / "script.sh"
        path.write_text(made.text)
        given = {
            "SLURM_ARRAY_TASK_ID": "0",
            "SLURM_ARRAY_JOB_ID": "12",
            "SLURM_JOB_ID": "12",
            "SLURM_JOB_NODELIST": "n1",
        }
        return subprocess.Popen(["bash", str(path)], env={**self.stub.environment, **given, **variables}, cwd=folder)

    def run(self, made: Script, folder: Path, **variables: str) -> int:
        """The same, to its end: its status, or minus the signal that ended it."""
        return self.start(made, folder, **variables).wait(60)

    def calls(self) -> list[str]:
        """What Slurm's commands were called with."""
        return self.told.read_text().split("\n")[:-1] if self.told.exists() else []


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def ending(chain: Chain, code: str, **changes: object) -> Script:
    """A script whose task does something."""
    chain.command = lambda task, _frozen, _run: ["bash", "-c", code, "bash", task.name]  # type: ignore[method-assign]
    return script(chain, **changes)


# --- what it asks for -----------------------------------------------------------------------------------------------


def test_resources_come_from_the_class_of_the_stage(tmp_path: Path) -> None:
    wanted = ResourcesConfig(gpus=4, cores=32, memory=120.5, hours=47.75, partition="gpu", qos="long", side_by_side=3)
    chain = Chain(tmp_path, {"name": "a", "workers": 5})
    told = asked(script(chain, resources={"light": wanted}, account="p200000", device="cuda", warning_minutes=7.5))
    assert told == {
        "job-name": "small:a",
        "chdir": str(chain.run.folder),
        "output": f"{chain.run.folder}/slurm/output/a.%A_%a.out",
        "open-mode": "append",
        "array": "0-4%3",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "32",
        "mem": "120500M",
        "time": "1-23:45:00",
        "signal": "B:USR1@450",
        "kill-on-invalid-dep": "yes",
        "requeue": "",
        "gres": "gpu:4",
        "partition": "gpu",
        "qos": "long",
        "account": "p200000",
    }


def test_what_nobody_asks_for_is_not_asked_for(tmp_path: Path) -> None:
    told = asked(script(Chain(tmp_path, {"name": "a", "kind": "alone"}), requeue=False))
    assert not {"gres", "partition", "qos", "account", "requeue", "mem"} & set(told)
    assert {"exclusive", "no-requeue"} <= set(told)


def test_any_further_option_of_sbatch_is_passed_on_quoted(tmp_path: Path) -> None:
    wanted = {"constraint": "gpu&hbm", "hint": "nomultithread", "nice": 5, "contiguous": True, "mail-user": None}
    made = script(Chain(tmp_path, {"name": "a"}), **_options(gpus=2, **wanted))
    told = asked(made)
    assert '#SBATCH --constraint="gpu&hbm"\n' in made.text and "#SBATCH --contiguous\n" in made.text
    assert (told["hint"], told["nice"], told["gres"]) == ("nomultithread", "5", "gpu:2")
    assert "mail-user" not in told
    # A site that wants GPUs requested in another way.
    other = asked(script(Chain(tmp_path, {"name": "a"}), **_options(gpus=2, **{"gpus-per-node": "a100:2"})))
    assert other["gpus-per-node"] == "a100:2" and "gres" not in other
    assert asked(script(Chain(tmp_path, {"name": "a"}), **_options(gpus=2, gres="gpu:a100:2")))["gres"] == "gpu:a100:2"


def test_modules_and_variables_stand_before_the_task_with_their_reasons(tmp_path: Path) -> None:
    changes = {
        "modules": {"Python/3.11": True, "Outdated/1.0": False},
        "environment": {"NCCL_SOCKET_IFNAME": "hsn0", "OTHER": "a b"},
    }
    text = script(Chain(tmp_path, {"name": "a"}), **changes).text
    assert text.startswith("#!/bin/bash -l\n")
    assert "module load Python/3.11 ||" in text and "Outdated" not in text
    assert re.search(r"# The network between the nodes; .*\nexport NCCL_SOCKET_IFNAME=hsn0\n", text)
    assert "export OTHER='a b'\n" in text
    assert text.index("export OTHER") < text.index("srun --nodes")


def test_a_name_says_its_content_so_that_none_is_written_over(tmp_path: Path) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    one, other = script(chain), script(chain, warning_minutes=9.0)
    assert one.name != other.name and one.name.startswith("a.")
    assert script(chain) == one


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"resources": {}}, r"machine\.resources\.light"),
        ({"resources": {"light": ResourcesConfig(nodes=2, cores=1, hours=1)}}, r"resources\.light\.nodes"),
        ({"resources": {"train": ResourcesConfig(cores=1, hours=1)}, "device": "cuda"}, r"resources\.train\.gpus"),
        ({"warning_minutes": 90.0}, r"machine\.warning_minutes"),
        ({"environment": {"A-B": "1"}}, r"machine\.environment"),
        ({"account": "a\n#SBATCH --wrap=x"}, "--account"),
        (_options(partition="gpu"), r"Set machine\.resources\.light\.partition"),
        (_options(array="0-9"), "array, which kd sets itself"),
        (_options(**{"-C": "gpu"}), "long name"),
        (_options(nodelist=["a", "b"]), r"options\.nodelist"),
    ],
)
def test_what_cannot_be_is_told_with_its_key(tmp_path: Path, changes: Mapping[str, object], key: str) -> None:
    kind = "trained" if "train" in key else "write"
    with pytest.raises(UserError, match=key):
        script(Chain(tmp_path, {"name": "a", "kind": kind}), **changes)


def test_a_folder_whose_name_slurm_would_fill_in_is_escaped(tmp_path: Path) -> None:
    assert output(Run(Path("/a/50%j")), "s") == "/a/50%%j/slurm/output/s.%A_%a.out"
    assert output(Run(Path("/a\\b")), "s") == "/dev/null"  # no numbers are filled in there: one file for all


def test_values_are_quoted_as_sbatch_reads_them() -> None:
    assert quoted("plain-1.5_x/y:z") == "plain-1.5_x/y:z"
    assert quoted('a "b" \\ $(c)') == '"a \\"b\\" \\\\ $(c)"'


# --- what it does ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NASTY)
def test_names_and_values_are_data(tmp_path: Path, node: Node, name: str) -> None:
    folder = tmp_path / f"run {name}"
    folder.mkdir()
    chain = Chain(folder, {"name": f"s{name}", "workers": 2})
    seen = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['ODD'], os.getcwd()]))"
    chain.command = lambda task, _frozen, run: [sys.executable, "-c", seen, name, str(run), task.name]  # type: ignore[method-assign]
    made = script(chain, recipe=f"r{name}", environment={"ODD": name}, account=f"x{name}", modules={})
    assert node.run(made, folder) == 0
    log = chain.run.log(next(chain.plan.tasks())).read_text()
    lines = [line for line in log.split("\n") if line.startswith("[")]
    assert json.loads(lines[0]) == [[name, str(chain.run.folder), "worker-0"], name, str(folder)]
    assert not list(tmp_path.rglob("hacked"))
    assert re.fullmatch(r"[\w.+-]+\.sh", made.name, re.ASCII)


def test_the_task_of_the_element_runs_with_the_threads_of_its_cores(tmp_path: Path, node: Node) -> None:
    chain = Chain(tmp_path, {"name": "a", "workers": 3})
    assert node.run(script(chain), tmp_path, SLURM_ARRAY_TASK_ID="2") == 0
    assert chain.told("end") == ["a/worker-2"]
    assert chain.spans()["a/worker-2"][2] == 2
    assert chain.run.log(chain.plan.task("a", "worker-2")).read_text().startswith("--- ")


@pytest.mark.parametrize("status", [1, 2, 139])
def test_what_fails_for_good_ends_with_its_status(tmp_path: Path, node: Node, status: int) -> None:
    assert node.run(ending(Chain(tmp_path, {"name": "a"}), f"exit {status}"), tmp_path) == status
    assert node.calls() == []


def test_what_may_pass_is_requeued_before_the_script_ends(tmp_path: Path, node: Node) -> None:
    made = ending(Chain(tmp_path, {"name": "a"}), "exit 75")
    assert node.run(made, tmp_path) == -15  # by Slurm
    assert node.calls()[-1] == "scontrol requeue 12_0"


def test_it_is_requeued_a_stated_number_of_times(tmp_path: Path, node: Node) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    made = ending(chain, "exit 75")
    assert node.run(made, tmp_path, SLURM_RESTART_COUNT="2", KD_LEGS="1") == 75
    assert node.calls() == []
    assert "launcher.requeues" in chain.run.log(next(chain.plan.tasks())).read_text()


def test_a_job_that_is_being_cancelled_does_not_come_back(tmp_path: Path, node: Node) -> None:
    assert node.run(ending(Chain(tmp_path, {"name": "a"}), "exit 75"), tmp_path, STATE="COMPLETING") == 75
    assert not any(call.startswith("scontrol") for call in node.calls())


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("trap 'exit 75' USR1; touch ready; for _ in {1..400}; do sleep 0.05; done", -15),  # a checkpoint: requeued
        ("trap 'exit 0' USR1; touch ready; for _ in {1..400}; do sleep 0.05; done", 0),  # it was as good as done
        ("touch ready; exec sleep 20", -15),  # too early for the task to take the signal
        ("trap 'exit 3' USR1; touch ready; for _ in {1..400}; do sleep 0.05; done", 3),
    ],
)
def test_the_warning_reaches_the_task_and_its_end_counts(tmp_path: Path, node: Node, code: str, expected: int) -> None:
    process = node.start(ending(Chain(tmp_path, {"name": "a"}), code), tmp_path)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(10)
    assert process.wait(30) == expected


def test_where_nothing_is_requeued_a_successor_is_submitted_and_waited_for(tmp_path: Path, node: Node) -> None:
    chain = Chain(tmp_path, {"name": "a"})
    chain.command = lambda task, _frozen, _run: ["bash", "-c", "exit 75", "bash", task.name]  # type: ignore[method-assign]
    made = script(chain, requeue=False)
    chain.run.folder.joinpath("slurm").mkdir(exist_ok=True)
    (node.stub.folder / "waits").write_text(
        "20_[0-3%2]|afterok:9(unfulfilled),afterok:12_*(unfulfilled)\n"
        "21|afterok:12_0(unfulfilled)\n22|afterok:12_1(unfulfilled)\n23|afterok:112_*(unfulfilled)\n24|(null)\n"
    )
    assert node.run(made, tmp_path, KD_SUBMISSION="abc", SLURM_RESTART_COUNT="1") == 0
    assert f"--array=0 --comment=kd:abc --export=ALL,KD_LEGS=2 {chain.run.folder}/slurm/{made.name}" in node.calls()[1]
    log = chain.run.log(next(chain.plan.tasks())).read_text()
    assert "goes on as job 77_0" in log
    assert node.calls()[3:] == [
        "scontrol update JobId=20_[0-3] Dependency=afterok:9,afterok:12_*,afterok:77_0",
        "scontrol update JobId=21 Dependency=afterok:12_0,afterok:77_0",
    ]


def test_a_successor_is_waited_for_by_what_is_just_being_submitted(tmp_path: Path, node: Node) -> None:
    """By a `kd run` that saw the job in the queue, and not yet its successor."""
    chain = Chain(tmp_path, {"name": "a"})
    made = ending(chain, "exit 75", requeue=False)
    waits = node.stub.folder / "waits"
    waits.write_text("")
    with Records(chain.run).hold(print):
        process = node.start(made, tmp_path)
        while not any(call.startswith("sbatch") for call in node.calls()):
            time.sleep(0.02)
        time.sleep(1.5)
        waits.write_text("21|afterok:12_0(unfulfilled)\n")
    assert process.wait(60) == 0
    assert node.calls()[-1] == "scontrol update JobId=21 Dependency=afterok:12_0,afterok:77_0"


def test_a_training_over_nodes_is_told_of_its_place_among_them(tmp_path: Path, node: Node) -> None:
    chain = Chain(tmp_path, {"name": "a", "kind": "trained"})
    code = 'echo "[$KD_NODES $KD_NODE_RANK $KD_RENDEZVOUS $KD_GPUS $KD_PROCESSES $KD_THREADS]"'
    wanted = ResourcesConfig(nodes=2, gpus=4, cores=8, hours=1)
    chain.command = lambda task, _frozen, _run: ["bash", "-c", code, "bash", task.name]  # type: ignore[method-assign]
    made = script(chain, resources={"train": wanted}, device="cuda")
    assert "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=8" in made.text
    (node.stub.folder / "bin" / "scontrol").write_text("#!/bin/bash\necho Welcome\necho first\necho second\n")
    assert node.run(made, tmp_path, SLURM_JOB_ID="40007") == 0
    assert "[2 0 first:25007 4 1 8]" in chain.run.log(next(chain.plan.tasks())).read_text()


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    for requeue in (True, False):
        chain = Chain(tmp_path, {"name": "a b", "kind": "trained", "workers": 2})
        wanted = {"train": ResourcesConfig(nodes=2, gpus=4, cores=8, hours=1)}
        made = script(chain, resources=wanted, requeue=requeue, modules={"x": True}, environment={"A": "it's"})
        checked = subprocess.run(
            [str(Path(sys.executable).parent / "shellcheck"), "--exclude=SC2016", "-"],  # for other shells to expand
            input=made.text,
            text=True,
            capture_output=True,
        )
        assert checked.returncode == 0, checked.stdout
