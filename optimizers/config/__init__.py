"""Settings of optimizers in a config, checked without Keras."""
