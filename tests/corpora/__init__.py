"""Tests of kd.corpora."""
