"""Implement `kd doctor`: check whether a machine is ready for runs; one line per check, with a remedy.

With the launcher Slurm, the checks of compute nodes run in a job on two nodes.
"""
