"""The commands about files, which need no recipe: each parses nothing itself and imports what is heavy when it runs."""
