"""Build, check, pin and enter images with kd and its dependencies, for `kd container`.

The definitions themselves are in containers/; `kd/launch/container.py` puts a run's tasks inside an image.
"""
