"""Images with kd and all it runs with: building, checking, pinning and entering them, for `kd container`.

The definitions themselves are in containers/; `kd/launch/container.py` puts a run's tasks inside an image.
"""
