"""Train, eval and test: which row falls to which split."""
