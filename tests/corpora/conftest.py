"""Settings of the property tests: no deadlines, so that a busy machine fails nothing, and the same examples always."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "kd", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("kd")
