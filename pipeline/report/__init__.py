"""The page of a run: what it read, found and decided, for a browser."""
