"""Commands of `lionctr`, one a module."""
