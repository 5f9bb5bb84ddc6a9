"""The Keras 3 architectures, one a file, and the registry of their names."""
