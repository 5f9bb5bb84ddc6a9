"""One reader a log format, and the registry of their names."""
