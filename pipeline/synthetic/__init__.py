"""Logs of `lionctr generate`: drawing and writing, one concern a file."""
