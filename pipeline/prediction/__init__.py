"""Batch scoring: a log in, predictions out."""
