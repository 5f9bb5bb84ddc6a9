"""Checks before a run: paths, columns, sizes, own code."""
