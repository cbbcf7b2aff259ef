"""Serve models over HTTP for `kd serve`: LibreTranslate's API and a page. It needs no training library."""
