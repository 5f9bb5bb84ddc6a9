"""Checkpoints, and the saved state that a later training begins with."""
