"""What `lionctr generate` draws and writes, one concern a file."""
