"""`kd doctor`: whether a machine is fit for runs, one line a finding, each with what mends it.

Where the launcher is Slurm, what concerns the nodes is looked at from a job of two nodes.
"""
