"""Launchers: run tasks locally or queue them on a cluster, by the command `kd task --config HASH STAGE TASK`."""
