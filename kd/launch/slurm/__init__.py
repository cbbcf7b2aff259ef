"""Runs of a recipe on a cluster: each stage becomes an array of jobs, chained by dependencies and queued at once.

Slurm schedules; what is here renders scripts, submits each once, and reads the queue. No process stays behind.
"""
