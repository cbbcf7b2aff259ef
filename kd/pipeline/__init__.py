"""Plans, names, stores and resumes stages and tasks. Independent of translation."""
