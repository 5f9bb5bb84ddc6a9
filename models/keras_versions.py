"""Keras 2 and Keras 3 in one process: which a model is of, a fresh start."""

from __future__ import annotations

from typing import Any


def keras_version(model: Any) -> int:
    """2 for a model of tf_keras, whose optimizer must be of Keras 2 too."""
    import keras

    return 3 if isinstance(model, keras.Model) else 2


def start_afresh(seed: int) -> None:
    """Layers' names and random states as in a fresh process, of Keras 2 and 3.

    Seeding one of them leaves the other where earlier models brought it.
    """
    import keras
    import tf_keras

    for library in (keras, tf_keras):
        library.backend.clear_session()
        library.utils.set_random_seed(seed)
