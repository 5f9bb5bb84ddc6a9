"""Trials of a search, and the store of finished ones."""
