"""From what stages left behind to the report's records: one module for each section of the page.

They read manifests and the stages' own files, add up the workers of a stage, and compute nothing else.
"""
