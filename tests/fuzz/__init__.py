"""Gives mutated files to every reader: `make fuzz` runs 10,000 of each, the tests 300."""
