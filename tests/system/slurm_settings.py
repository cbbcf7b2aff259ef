"""Configuration of a test's Slurm: nodes, partitions and limits, as slurm.conf, gres.conf and slurmdbd.conf.

Everything else in the files makes a cluster of one machine answer within seconds where a site's takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTROLLER = "ctl"  # host name of the controller, whose namespaces the clients run in as well
CLUSTER = "test"  # Slurm's name of the cluster


@dataclass(frozen=True)
class Nodes:
    """Equal nodes, called NAME1, NAME2 …; Slurm does not check these figures."""

    name: str = "node"
    number: int = 2
    cores: int = 2
    threads: int = 1  # hardware threads of a core; Slurm counts each as a CPU
    memory: int = 16_000  # MB
    gpus: int = 0  # of which each job is told the numbers in CUDA_VISIBLE_DEVICES; none exists

    @property
    def hosts(self) -> list[str]:
        """Return their host names."""
        return [f"{self.name}{number}" for number in range(1, self.number + 1)]


@dataclass(frozen=True)
class Partition:
    """A partition; jobs of a higher tier preempt (requeue) those of a lower one."""

    name: str
    tier: int = 1
    nodes: str = "ALL"
    max_time: str = "INFINITE"
    grace: int = 3  # seconds between SIGTERM and SIGKILL for a job that is preempted
    requeued_by_higher: bool = True  # whether its jobs may be preempted
    more: str = ""  # any other words of slurm.conf: AllowQos=… QOS=…


@dataclass(frozen=True)
class Settings:
    """A cluster. The first partition is the default one."""

    nodes: tuple[Nodes, ...] = (Nodes(),)
    partitions: tuple[Partition, ...] = (Partition("normal"), Partition("urgent", tier=10, requeued_by_higher=False))
    max_array: int = 1001  # Slurm's own default
    # Seconds that a credential is valid for. A requeued job waits as long (Slurm's default: 120) before it starts.
    credential_seconds: int = 5
    node_timeout: int = 30  # seconds of silence after which a node is taken for dead, and its jobs are requeued
    accounting: bool = False  # slurmdbd on MariaDB: sacct answers
    enforce: str = ""  # AccountingStorageEnforce, such as associations,limits,qos: unknown accounts are refused
    remembered: int = 600  # seconds that squeue knows of a job which is over (MinJobAge; looked at once a minute)
    requeue: bool = True  # whether a job may be requeued where it does not say


@dataclass(frozen=True)
class Network:
    """Addresses 10.213.NUMBER.x: the controller's ends in 1, those of the nodes in 11, 12 …"""

    number: int

    def address(self, settings: Settings, host: str) -> str:
        """Return the address of the controller or of a node."""
        last = 1 if host == CONTROLLER else 11 + hosts(settings).index(host)
        return f"10.213.{self.number}.{last}"


def hosts(settings: Settings) -> list[str]:
    """Return the host names of all nodes."""
    return [host for group in settings.nodes for host in group.hosts]


def write(root: Path, settings: Settings, network: Network, spool: Path) -> None:
    """Write slurm.conf, gres.conf, slurmdbd.conf and the hosts file of the nodes to `root`.

    spool: a short path: sockets lie below it, whose paths have 108 bytes at most.
    """
    named = [CONTROLLER, *hosts(settings)]
    lines = ["127.0.0.1 localhost", *(f"{network.address(settings, host)} {host}" for host in named)]
    (root / "hosts").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    (root / "slurm.conf").write_text(_slurm(root, settings, network, spool), "utf-8")
    (root / "gres.conf").write_text(_gres(root, settings), "utf-8")
    database = root / "slurmdbd.conf"
    database.write_text(DATABASE.format(root=root, spool=spool), "utf-8")
    database.chmod(0o600)  # slurmdbd refuses one that others may read


def _slurm(root: Path, settings: Settings, network: Network, spool: Path) -> str:
    enforce = f"AccountingStorageEnforce={settings.enforce}" if settings.enforce else ""
    accounting = ACCOUNTING.format(spool=spool, enforce=enforce) if settings.accounting else NO_ACCOUNTING
    nodes = [
        f"NodeName={host} NodeHostname={host} NodeAddr={network.address(settings, host)} "
        f"CPUs={group.cores * group.threads} Sockets=1 CoresPerSocket={group.cores} ThreadsPerCore={group.threads} "
        f"RealMemory={group.memory} {f'Gres=gpu:fake:{group.gpus} ' if group.gpus else ''}State=UNKNOWN"
        for group in settings.nodes
        for host in group.hosts
    ]
    partitions = [
        f"PartitionName={item.name} Nodes={item.nodes} Default={'NO' if number else 'YES'} MaxTime={item.max_time} "
        f"State=UP PriorityTier={item.tier} GraceTime={item.grace} "
        f"PreemptMode={'REQUEUE' if item.requeued_by_higher else 'OFF'} {item.more}"
        for number, item in enumerate(settings.partitions)
    ]
    head = SLURM.format(
        root=root,
        spool=spool,
        cluster=CLUSTER,
        controller=f"{CONTROLLER}({network.address(settings, CONTROLLER)})",
        max_array=settings.max_array,
        credential_seconds=settings.credential_seconds,
        node_timeout=settings.node_timeout,
        requeue=int(settings.requeue),
        remembered=settings.remembered,
        accounting=accounting,
    )
    return "\n".join([head, *nodes, *partitions, ""])


def _gres(root: Path, settings: Settings) -> str:
    lines = ["AutoDetect=off"]
    for group in settings.nodes:
        for number in range(group.gpus):
            # Slurm wants a device there, and never opens it.
            if not (root / f"gpu{number}").exists():
                (root / f"gpu{number}").symlink_to("/dev/null")
        for host in group.hosts if group.gpus else []:
            lines.append(f"NodeName={host} Name=gpu Type=fake File={root}/gpu[0-{group.gpus - 1}]")
    return "".join(f"{line}\n" for line in lines)


SLURM = """\
ClusterName={cluster}
SlurmctldHost={controller}
SlurmctldPort=6817
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={spool}/munge.sock,cred_expire={credential_seconds}
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={spool}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
# No control groups: a container that runs the tests may not make any.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
# sbatch refuses what no partition can run.
EnforcePartLimits=ALL
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
MaxArraySize={max_array}
# A node that fell silent comes back by itself, one that somebody set down does not.
ReturnToService=1
SlurmctldTimeout=10
SlurmdTimeout={node_timeout}
InactiveLimit=0
MinJobAge={remembered}
KillWait=2
OverTimeLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue={requeue}
{accounting}
"""

NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none\n"

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStoragePort=6819
AccountingStoragePass={spool}/munge.sock
{enforce}
AccountingStorageTRES=gres/gpu
"""

DATABASE = """\
DbdHost=ctl
DbdPort=6819
AuthType=auth/munge
AuthInfo=socket={spool}/munge.sock
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=tests
StorageLoc=slurm_acct_db
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
"""
