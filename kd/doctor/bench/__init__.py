"""Implement `kd doctor bench=true`: measure the speed of kd on one computer's GPUs, in ten minutes.

`command.py` finds the device and writes the results; `schedule.py` runs the measurements of `training.py`,
`decoding.py` and `memory.py`, each in a process of its own, within the time; `page.py` prints them. On a CPU the same
measurements run with tiny models, which shows that they work and says nothing about speed.
"""
