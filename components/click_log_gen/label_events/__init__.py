"""Labels from events of another log, which come after a row."""
