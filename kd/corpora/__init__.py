"""Readers and writers of parallel text, shards, filters and sampling."""
