"""Find, compose and validate recipes."""
