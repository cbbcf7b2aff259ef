"""Starts, inspects, cancels and cleans runs."""
