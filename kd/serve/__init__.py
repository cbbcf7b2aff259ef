"""Serves models over HTTP: LibreTranslate's API and a page. `kd serve` starts it; it needs no training library."""
