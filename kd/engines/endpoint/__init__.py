"""Teachers behind an OpenAI-compatible server: the only module that sends requests to a language model."""
