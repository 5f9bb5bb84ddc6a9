"""Losses of a row, of its logits and its label."""
