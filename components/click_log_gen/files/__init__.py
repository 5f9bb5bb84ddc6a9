"""Log files: which there are, how they are cut and decompressed."""
