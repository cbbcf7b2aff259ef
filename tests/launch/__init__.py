"""Tests of the launchers, with the small kinds of tests/pipeline."""
