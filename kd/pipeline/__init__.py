"""Stages and tasks: how they are planned, named, stored and resumed. Independent of translation."""
