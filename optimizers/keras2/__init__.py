"""Optimizers of a configuration for Keras 2, the package tf_keras."""
