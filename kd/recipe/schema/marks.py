"""How fields of the schema are marked: what of a setting makes another artifact, and what does not.

See kd/pipeline/fingerprint.py, which reads the marks.
"""

EXTENT = {"fingerprint": "extent"}
TRANSIENT = {"fingerprint": "transient"}
