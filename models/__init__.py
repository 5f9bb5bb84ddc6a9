"""The learner. Importing it pins Keras 2 for TFX's own Keras layers."""

import os

# TFT, TFMA and TFRS are written for Keras 2 behind `tf.keras`; our own code
# imports `keras` (Keras 3). This must be set before TensorFlow is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
