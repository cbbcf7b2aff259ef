"""Tests of the pipeline, on small kinds of its own that know nothing of translation."""
