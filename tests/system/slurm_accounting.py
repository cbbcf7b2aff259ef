"""Accounting for a test's Slurm: MariaDB, and slurmdbd in front of it, so that sacct answers and accounts are checked.

Both live in the cluster's folder and end with it.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from slurm_settings import CLUSTER, CONTROLLER

if TYPE_CHECKING:
    from slurm_cluster import Cluster

SETUP = (
    "create database slurm_acct_db; create user slurm@localhost identified by 'tests'; "
    "grant all on slurm_acct_db.* to slurm@localhost"
)


def start(cluster: Cluster) -> None:
    """Start the database and slurmdbd, and register the cluster; munged must be running."""
    home = cluster.root / "database"
    home.mkdir()
    data, listening = home / "data", cluster.spool / "database.sock"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db"]
    done = subprocess.run([*install, "--auth-root-authentication-method=normal"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    places = [f"--datadir={data}", f"--socket={listening}", f"--pid-file={home / 'pid'}"]
    small = ["--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"]
    cluster.spawn("mariadbd", ["mariadbd", "--no-defaults", "--user=root", *places, *small], CONTROLLER)
    client = ["mariadb", "--no-defaults", f"--socket={listening}", "--user=root"]
    cluster.wait_until(
        lambda: subprocess.run([*client, "-e", "select 1"], capture_output=True).returncode == 0, "MariaDB answers"
    )
    subprocess.run([*client, "-e", SETUP], check=True, capture_output=True)
    # slurmdbd.conf stands beside slurm.conf, which SLURM_CONF names.
    cluster.spawn("slurmdbd", ["slurmdbd", "-D"], CONTROLLER, {"MYSQL_UNIX_PORT": str(listening)})
    manager = ["sacctmgr", "--immediate"]
    cluster.wait_until(
        lambda: CLUSTER in cluster.cmd(*manager, "add", "cluster", CLUSTER, check=False).stdout, "slurmdbd answers"
    )
