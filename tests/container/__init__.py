"""Tests of kd/container/: what can be known without a container runtime. tests/system has the rest."""
