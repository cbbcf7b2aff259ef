"""What came out of a run, for people: one page, and the same results as a table for the terminal."""
