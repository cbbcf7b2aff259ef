"""A real Slurm on one machine, without systemd: munged, slurmctld and one slurmd a node, as the tests' own processes.

Controller and nodes stand in network, UTS and mount namespaces of their own, with own addresses, on one bridge. The
file system is common to all, as on a cluster. Wants root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import slurm_accounting
from slurm_daemons import Record, watch
from slurm_settings import CONTROLLER, Network, Settings, hosts, write

START_SECONDS = 60.0  # two seconds on an idle machine; tests share theirs with others


class Cluster:
    """A Slurm in the folder `root`; as a context manager, it starts and stops with the block."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.root = root
        self.settings = settings or Settings()
        self.nodes = hosts(self.settings)
        self._record = Record(root)
        self._network: Network | None = None
        self.spool = Path("/nonexistent")  # a folder with a short path while it is up: that of a socket has 108 bytes
        self._watcher: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which Slurm's commands use this cluster."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return {**ours, "SLURM_CONF": str(self.root / "slurm.conf")}

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all daemons and wait until all nodes are idle."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        self._record.save()
        self._watcher = watch(self.root)
        try:
            self._network = self._make_network()
            self.spool = Path(tempfile.mkdtemp(prefix="kd-"))
            write(self.root, self.settings, self._network, self.spool)
            self._start_munge()
            if self.settings.accounting:
                slurm_accounting.start(self)
            (self.root / "state").mkdir(exist_ok=True)
            config = str(self.root / "slurm.conf")
            self.spawn("slurmctld", ["slurmctld", "-D", "-i", "-f", config], CONTROLLER)
            for node in self.nodes:
                self.start_node(node)
            self.wait_until(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "all nodes are idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all jobs and daemons by their process ids, and remove the namespaces."""
        if "slurmctld" in self._record.processes:
            with suppress(subprocess.TimeoutExpired):
                self.cancel_all()
        self._record.end_all()
        shutil.rmtree(self.spool, ignore_errors=True)
        if self._watcher is not None:
            self._watcher.communicate()  # closes its standard input; there is nothing left for it to do
            self._watcher = None

    def cancel_all(self) -> None:
        """Kill every job and wait until no node runs one."""
        everyone = ["scancel", "--user=root"]
        self.cmd(*everyone, "--full", "--signal=KILL", check=False, timeout=20)
        self.cmd(*everyone, check=False, timeout=20)
        with suppress(AssertionError):
            self.wait_until(lambda: not self.cmd("squeue", "-h", "-t", "R,CG", check=False).stdout, "jobs end", 15)

    # --- what tests do with it ---------------------------------------------------------------------------------------

    def inside(self, host: str, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` on the controller or a node."""
        assert self._network is not None
        # nsenter, not `ip netns exec`: that mounts /sys anew, where slurmd then misses the control groups.
        enter = ["nsenter", f"--net=/run/netns/{self._namespace(host)}", "unshare", "--uts", "--mount"]
        script = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
        return [*enter, "sh", "-c", script, "sh", host, str(self.root / "hosts"), *argv]

    def cmd(
        self,
        *argv: str,
        host: str = CONTROLLER,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, by default on the controller (as on a login node) and in `root`."""
        done = subprocess.run(
            self.inside(host, argv),
            capture_output=True,
            text=True,
            env={**self.environment, **(environment or {})},
            cwd=cwd or self.root,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert not check or done.returncode == 0, f"{argv} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def popen(
        self, *argv: str, host: str = CONTROLLER, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a command that the test kills or runs in parallel; its standard output and error share a pipe."""
        return subprocess.Popen(
            self.inside(host, argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, **(environment or {})},
            cwd=cwd or self.root,
        )

    def states(self) -> dict[str, str]:
        """Return the state of each node as sinfo prints it: idle, mixed, allocated, down, down* (does not answer) …"""
        listed = self.cmd("sinfo", "--noheader", "--Node", "--format=%N %T", check=False).stdout
        return dict(line.split() for line in listed.split("\n") if line)

    def jobs(self, *options: str) -> list[dict[str, str]]:
        """Return the jobs of squeue (with `--states=all` also ended ones): id, array, name, state, reason, comment."""
        keys = ["id", "array", "name", "state", "reason", "comment"]
        listed = self.cmd("squeue", "--noheader", "--array", "--format=%A\t%i\t%j\t%T\t%r\t%k", *options).stdout
        return [dict(zip(keys, line.split("\t"), strict=True)) for line in listed.split("\n") if line]

    def job(self, identity: str) -> dict[str, str]:
        """Return the job of an id (of an array's element: 12_3), ended or not."""
        (found,) = self.jobs("--states=all", f"--jobs={identity}")
        return found

    def wait_until(self, holds: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
        """Poll until a condition holds; fail with the end of the controller's log if it does not."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"In {seconds:.0f} s it did not come true that {what}.\n{self.last_words()}")
            time.sleep(0.1)

    def last_words(self) -> str:
        """Return the ends of the daemons' logs."""
        logs = [*sorted(self.root.glob("*.log")), *sorted(self.root.glob("*.out"))]
        return "\n".join(f"== {path.name}\n{path.read_text('utf-8', 'replace')[-1500:]}" for path in logs)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def start_node(self, node: str) -> None:
        """Start the daemon of a node, at first or after `end_node`."""
        (self.spool / f"spool.{node}").mkdir(exist_ok=True)
        self.spawn(f"slurmd.{node}", ["slurmd", "-D", "-N", node, "-f", str(self.root / "slurm.conf")], node)

    def end_node(self, node: str) -> None:
        """Kill every process on a node, the daemon first, as a loss of power does."""
        pid = self._record.processes[f"slurmd.{node}"][0]
        for other in sorted(self.processes(node, ""), key=lambda found: found != pid):
            with suppress(ProcessLookupError):
                os.kill(other, 9)
        self._record.end(f"slurmd.{node}")

    def processes(self, node: str, word: str) -> list[int]:
        """Return the processes on a node whose command line contains a word."""
        listed = subprocess.run(["ip", "netns", "pids", self._namespace(node)], capture_output=True, text=True)
        found = []
        for pid in map(int, listed.stdout.split()):
            with suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def set_down(self, node: str, reason: str = "a test") -> None:
        """Set a node down as an administrator does; its jobs are lost."""
        self.cmd("scontrol", "update", f"NodeName={node}", "State=DOWN", f"Reason={reason}")

    def set_up(self, node: str) -> None:
        """Resume the node."""
        self.cmd("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def cut(self, node: str) -> None:
        """Cut a node's network. Its processes go on and cannot be reached."""
        _ip("-n", self._namespace(node), "link", "set", "eth0", "down")

    def join(self, node: str) -> None:
        """Connect the node again."""
        _ip("-n", self._namespace(node), "link", "set", "eth0", "up")

    def recover(self) -> None:
        """Undo all faults and wait until every node is idle."""
        for node in self.nodes:
            self.join(node)
            if f"slurmd.{node}" not in self._record.processes:
                self.start_node(node)
            if self.states().get(node) != "idle":
                self.cmd("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        self.wait_until(lambda: self.states() == dict.fromkeys(self.nodes, "idle"), "all nodes are idle again")

    def allow(self, account: str, qos: Sequence[str] = ()) -> None:
        """Add an account that the tests' user may charge, with its allowed QOS."""
        manager = ["sacctmgr", "--immediate"]
        for name in qos:
            self.cmd(*manager, "add", "qos", name, check=False)  # it may be there already
        allowed = [f"QosLevel={','.join(['normal', *qos])}"]
        self.cmd(*manager, "add", "account", account, *allowed)
        self.cmd(*manager, "add", "user", "root", f"Account={account}", *allowed)

    # --- the making of -----------------------------------------------------------------------------------------------

    def spawn(self, name: str, argv: Sequence[str], host: str, more: Mapping[str, str] | None = None) -> None:
        """Start a daemon on a host."""
        self._record.spawn(name, self.inside(host, argv), {**self.environment, **(more or {})})

    def _start_munge(self) -> None:
        key, socket = self.root / "munge.key", self.spool / "munge.sock"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        places = {"key-file": key, "socket": socket, "pid-file": "munge.pid", "log-file": "munge.log"}
        options = [f"--{name}={self.root / value}" for name, value in {**places, "seed-file": "munge.seed"}.items()]
        self.spawn("munged", ["munged", "--foreground", "--force", *options], CONTROLLER)
        self.wait_until(socket.exists, "munged listens")

    def _namespace(self, host: str) -> str:
        assert self._network is not None
        return f"kd{self._network.number}-{host}"

    def _make_network(self) -> Network:
        network = self._free_network()
        self._network = network
        bridge = f"kd{network.number}"
        for place, host in enumerate([CONTROLLER, *self.nodes]):
            namespace, link = self._namespace(host), f"kd{network.number}n{place}"
            self._record.namespaces.append(namespace)
            self._record.links.insert(0, link)
            self._record.save()
            _ip("netns", "add", namespace)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", link, "master", bridge, "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "addr", "add", f"{network.address(self.settings, host)}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
        return network

    def _free_network(self) -> Network:
        # A bridge of a name that exists is refused: so the number belongs to whoever made its bridge, across processes.
        for number in range(1, 255):
            bridge = f"kd{number}"
            made = subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True, text=True)
            if made.returncode == 0:
                self._record.links.append(bridge)
                self._record.save()
                _ip("link", "set", bridge, "up")
                return Network(number)
            assert "exists" in made.stderr, made.stderr
        raise AssertionError("There are 254 clusters on this machine.")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"
