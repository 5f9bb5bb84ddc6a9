"""The Keras 2 models of TensorFlow Recommenders; removable in one go."""
