"""Start, inspect, cancel and clean runs."""
