"""Test every machine file on a Slurm with the partitions, nodes and limits that its site publishes.

The sites' side is stated here a second time, from their documentation and not from conf/machine/: a job that requests
more than a partition gives, or names a partition that does not exist, is refused as at the site.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from slurm_cluster import Cluster
from slurm_place import slurm_place
from slurm_settings import Nodes, Partition, Settings

from kd.launch.environment import command
from kd.launch.slurm.arrays import parts
from kd.launch.slurm.script import Settings as Scripts
from kd.launch.slurm.script import render
from kd.pipeline.run import Run
from kd.recipe import compose
from kd.recipe.schema import MachineConfig
from tests.launch.test_cluster_pages import commands

pytestmark = pytest.mark.system

ACCOUNT = "p200000"
WALKED = {"meluxina": (), "lumi": ("singularity",), "leonardo": ()}  # site -> container runtimes of its login node
# Recipes whose jobs every site judges, with the demo on two nodes: together they have all kinds of stages. The others
# meet one site each, in turn, since their jobs differ from these in names and numbers alone.
TWO_NODES = "demo"
EVERYWHERE = ("monolingual_small", "en_fi_search", "llm_teacher")
# What a recipe has to be told.
NEEDED = {"bilingual": ("pair=fi-en",), "files": ("source=text.en", "target=text.de")}
JUDGE = 'for script in *.sh; do sbatch --test-only "$script" || echo "refused: $script"; done'
# What the site does not allow a training, without which an acceptance would prove nothing.
REFUSED = [
    "--account=other",
    "--qos=acc_debug",
    "--partition=gpp",
    "--time=96:00:00",
    "--gres=gpu:5",
    "--cpus-per-task=81",
]
WHOLE_NODES = "OverSubscribe=EXCLUSIVE"
# Two nodes of a kind stand for all of them. Memory in MB, as much as jobs may have.
SITES = {
    # docs.lumi-supercomputer.eu/runjobs/scheduled-jobs/partitions; hardware/lumig, lumic; 63 cores for jobs on LUMI-G
    "lumi": Settings(
        nodes=(
            Nodes("gpu", cores=63, threads=2, memory=480 * 1024, gpus=8),
            Nodes("cpu", cores=128, threads=2, memory=224 * 1024),
        ),
        partitions=(
            Partition("standard", nodes="cpu[1-2]", max_time="2-00:00:00", more=WHOLE_NODES),
            Partition("small", nodes="cpu[1-2]", max_time="3-00:00:00", more="MaxNodes=4"),
            Partition("standard-g", nodes="gpu[1-2]", max_time="2-00:00:00", more=WHOLE_NODES),
            Partition("small-g", nodes="gpu[1-2]", max_time="3-00:00:00", more="MaxNodes=4"),
            Partition("dev-g", nodes="gpu[1-2]", max_time="03:00:00", more="MaxNodes=32"),
        ),
    ),
    # docs.hpc.cineca.it/hpc/leonardo.html
    "leonardo": Settings(
        nodes=(Nodes("lrd", cores=32, memory=494_000, gpus=4), Nodes("login", 1, cores=32, threads=2, memory=250_000)),
        partitions=(
            Partition("lrd_all_serial", nodes="login1", max_time="04:00:00", more="MaxMemPerNode=30800 MaxNodes=1"),
            Partition("boost_usr_prod", nodes="lrd[1-2]", max_time="1-00:00:00", more="MaxNodes=64"),
        ),
    ),
    # bsc.es/supportkc/docs/MareNostrum5: overview, slurm. Accounts and QOS are checked, as there.
    "marenostrum5": Settings(
        nodes=(Nodes("as", cores=80, memory=512_000, gpus=4), Nodes("gs", cores=112, memory=229_376)),
        partitions=(
            Partition(
                "gpp", nodes="gs[1-2]", max_time="3-00:00:00", more="DefMemPerCPU=2048 AllowQos=gp_ehpc,gp_debug"
            ),
            Partition(
                "acc", nodes="as[1-2]", max_time="3-00:00:00", more="DefMemPerCPU=6400 AllowQos=acc_ehpc,acc_debug"
            ),
        ),
        accounting=True,
        enforce="associations,limits,qos",
    ),
    # docs.lxp.lu/first-steps/quick_start (hyper-threading is on), …/handling_jobs; system/detailed_arch
    "meluxina": Settings(
        nodes=(
            Nodes("mel", cores=128, threads=2, memory=490_000),
            Nodes("melg", cores=64, threads=2, memory=490_000, gpus=4),
        ),
        partitions=(
            Partition("cpu", nodes="mel[1-2]", max_time="6-00:00:00", more=WHOLE_NODES),
            Partition("gpu", nodes="melg[1-2]", max_time="6-00:00:00", more=WHOLE_NODES),
        ),
    ),
    # docs.it4i.cz/general/resources-allocation-policy; karolina/compute-nodes
    "karolina": Settings(
        nodes=(Nodes("cn", cores=128, memory=240_000), Nodes("acn", cores=128, memory=980_000, gpus=8)),
        partitions=(
            Partition("qcpu", nodes="cn[1-2]", max_time="2-00:00:00", more=WHOLE_NODES),
            Partition("qgpu", nodes="acn[1-2]", max_time="2-00:00:00"),
        ),
    ),
    # doc.vega.izum.si/shares: two threads a core
    "vega": Settings(
        nodes=(
            Nodes("cn", cores=128, threads=2, memory=244_140),
            Nodes("gn", cores=128, threads=2, memory=488_000, gpus=4),
        ),
        partitions=(
            Partition("cpu", nodes="cn[1-2]", max_time="2-00:00:00"),
            Partition("gpu", nodes="gn[1-2]", max_time="4-00:00:00"),
        ),
    ),
    # docs.macc.fccn.pt: deucalion, jobs
    "deucalion": Settings(
        nodes=(Nodes("cnx", cores=128, memory=240_000), Nodes("gnx", cores=128, memory=490_000, gpus=4)),
        partitions=(
            Partition("normal-x86", nodes="cnx[1-2]", max_time="2-00:00:00", more=f"MaxNodes=64 {WHOLE_NODES}"),
            Partition("normal-a100-40", nodes="gnx[1-2]", max_time="2-00:00:00", more="MaxNodes=4"),
        ),
    ),
    # docs.discoverer.bg: resource_overview, writing_slurm_batch
    "discoverer": Settings(
        nodes=(Nodes("cn", cores=128, threads=2, memory=251_000),),
        partitions=(Partition("cn", nodes="cn[1-2]"),),
    ),
    # apps.fz-juelich.de/jsc/hps/jupiter: configuration, batchsystem; whole nodes; users report 12 hours
    "jupiter": Settings(
        nodes=(Nodes("jpbo", cores=288, memory=460_000, gpus=4),),
        partitions=(Partition("booster", nodes="jpbo[1-2]", max_time="12:00:00", more=WHOLE_NODES),),
    ),
}


def write_scripts(machine: str, recipe: str, folder: Path, *more: str) -> int:
    """Write the job scripts of a whole recipe and return their number."""
    overrides = [f"machine={machine}", f"machine.account={ACCOUNT}", "launcher=slurm", *more]
    places = [f"run.dir={folder / 'run'}", f"store.dir={folder / 'store'}"]
    config = compose.compose(compose.parse_request([f"recipe={recipe}", *overrides, *places]))
    plan = compose.plan(config, defaultdict(dict))  # no raw file is looked at: the corpora are not here
    found = OmegaConf.to_object(config.machine)
    assert isinstance(found, MachineConfig)
    settings = Scripts(recipe, "0123456789abcdef", found, config.launcher.requeues, Run(folder / "run"), command)
    scripts = [render(part, settings) for stage in plan.stages for part in parts(stage, found.max_array)]
    folder.mkdir(parents=True, exist_ok=True)
    for script in scripts:
        (folder / script.name).write_text(script.text, "utf-8")
    return len(scripts)


def walk(cluster: Cluster, machine: str, folder: Path) -> None:
    """Type the `kd run` command of a site's page on its login node; no job starts, since the partitions are closed."""
    place = slurm_place(folder, cluster).place
    (folder / "bin").mkdir()
    for name in WALKED[machine]:  # a runtime that is not used: no task runs on the login node, but for downloads
        (folder / "bin" / name).write_text("#!/bin/sh\n", "utf-8")
        (folder / "bin" / name).chmod(0o755)
    (folder / "kd-rocm.sif").touch()
    for partition in cluster.settings.partitions:
        cluster.cmd("scontrol", "update", f"PartitionName={partition.name}", "State=DOWN")
    (command,) = [words for words in commands(machine) if words[:2] == ["kd", "run"]]
    words = [word for word in command[2:] if word != "recipe=demo"]
    path = f"{folder / 'bin'}:/usr/bin:/bin"  # kd's Python is named by its path: the login node has none of its own
    done = cluster.cmd(*place.arguments("run", *words), cwd=folder, environment={"PATH": path})
    queued = cluster.jobs()
    assert f"Submitted {len(queued)} tasks" in done.stderr
    collected = any(job["name"].startswith("tiny:collect") for job in queued)
    assert collected == (machine != "leonardo"), done.stderr  # whose compute nodes have no internet
    told = cluster.cmd("scontrol", "show", "job", queued[0]["id"]).stdout
    assert f"Account={ACCOUNT}" in told
    # Each thread has a core of its own, where Slurm counts two threads per core.
    (training,) = [job for job in queued if job["name"] == "tiny:control.en-xx"]
    facts = cluster.cmd("scontrol", "show", "job", training["id"]).stdout
    cores = {"meluxina": 64, "lumi": 56, "leonardo": 32}[machine]
    assert f"CPUs/Task={cores} " in facts
    assert (re.search(r"ReqB:S:C:T=\S+:1\s", facts) is not None) == (machine != "leonardo"), facts


def test_every_machine_file_of_a_cluster_has_its_slurm_in_this_module() -> None:
    conf = Path(__file__).parents[2] / "conf" / "machine"
    unpublished = {"daedalus"}  # its file has `???` for partitions and limits
    assert {path.stem for path in conf.glob("*.yaml")} - {"localhost", "localhost_gpu"} - unpublished == set(SITES)


def recipes_for(machine: str) -> list[str]:
    """Return the recipes whose jobs a site judges; all sites together have all recipes."""
    others = sorted(set(compose.recipes()) - {*EVERYWHERE, TWO_NODES})
    return [*EVERYWHERE, *others[list(SITES).index(machine) :: len(SITES)]]


def kinds_of(recipe: str) -> set[str]:
    """Return the kinds of the stages of a recipe."""
    config = compose.compose(compose.parse_request([f"recipe={recipe}", *NEEDED.get(recipe, ())]))
    return {stage.kind.name for stage in compose.plan(config, defaultdict(dict)).stages}


def test_the_recipes_that_every_site_judges_have_all_kinds() -> None:
    everywhere = set[str]().union(*map(kinds_of, (*EVERYWHERE, TWO_NODES)))
    assert {name: kinds - everywhere for name in compose.recipes() if (kinds := kinds_of(name)) - everywhere} == {}


@pytest.mark.parametrize("machine", SITES)
def test_the_sites_slurm_accepts_the_jobs_of_recipes(machine: str, tmp_path: Path) -> None:
    with Cluster(tmp_path / "slurm", SITES[machine]) as cluster:
        if cluster.settings.accounting:
            cluster.allow(ACCOUNT, ["acc_ehpc", "gp_ehpc"])
        wanted = [(recipe, NEEDED.get(recipe, ())) for recipe in recipes_for(machine)]
        for recipe, more in [*wanted, (TWO_NODES, ("machine.resources.train.nodes=2",))]:
            folder = tmp_path / f"{recipe}-{len(more)}"
            assert write_scripts(machine, recipe, folder, *more) > 5
            judged = cluster.cmd("sh", "-c", JUDGE, cwd=folder)
            assert judged.stdout == "", judged.stdout + judged.stderr
            assert "to start at" in judged.stderr
        if machine in WALKED:
            walk(cluster, machine, tmp_path / "newcomer")
        if cluster.settings.accounting:
            (training,) = (tmp_path / f"{EVERYWHERE[0]}-0").glob("teacher.*.sh")
            for option in REFUSED:
                refused = cluster.cmd("sbatch", "--test-only", option, str(training), check=False)
                assert refused.returncode != 0, f"{option}: {refused.stderr}"


def test_no_memory_is_requested_where_a_site_forbids_it(tmp_path: Path) -> None:
    """BSC's documentation: memory comes with the cores, and --mem cannot be given."""
    write_scripts("marenostrum5", "demo", tmp_path / "mn5")
    assert not [path for path in (tmp_path / "mn5").glob("*.sh") if "--mem" in path.read_text("utf-8")]
    write_scripts("lumi", "demo", tmp_path / "lumi")
    (script,) = (tmp_path / "lumi").glob("teacher.*.sh")
    assert "#SBATCH --mem=480000M\n" in script.read_text("utf-8")
