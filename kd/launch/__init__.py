"""Launchers: run tasks here or queue them on a cluster, by the command `kd task --config HASH STAGE TASK`."""
