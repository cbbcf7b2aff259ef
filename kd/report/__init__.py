"""The results of a run: one page, and the same results as tables for the terminal."""
