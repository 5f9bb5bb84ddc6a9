"""What all tests share: quiet TensorFlow, Keras 2 for TFX's own layers."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import models  # noqa: F401 (pins Keras 2 before TensorFlow loads)
