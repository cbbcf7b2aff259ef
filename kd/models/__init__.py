"""Models on disk, the systems made of them, vocabularies and languages."""
