"""Histories: what the user of each row did before it, from the log."""
