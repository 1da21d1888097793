"""Benchmarks of the whole server: `python -m bench`."""
