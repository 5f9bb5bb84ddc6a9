"""Keras layers that several architectures use."""
