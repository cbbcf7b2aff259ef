"""Run recipes on Slurm: each stage becomes a job array, chained by dependencies and queued at once.

Slurm schedules; this package renders scripts, submits each once and reads the queue. No process keeps running.
"""
