"""Keras's callbacks: those of the config, and the list that is told."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import keras

from models.config import TrainConfig
from models.errors import InputError
from models.registry import keras_version
from models.user_code import see_current_folder


def configured(config: TrainConfig) -> list[Any]:
    """The callbacks that `train.callbacks` names.

    Raises:
        InputError: one of them cannot be made.
    """
    see_current_folder()
    made = []
    for position, callback in enumerate(config.callbacks):
        module, _, name = callback.name.partition(":")
        try:
            cls = getattr(importlib.import_module(module), name)
            made.append(cls(**(callback.model_extra or {})))
        except (ImportError, AttributeError, TypeError) as error:
            raise InputError(
                f"train.callbacks.{position}: {callback.name!r} cannot be"
                f" made: {error}. Accepted: package.module:Class of a Keras"
                " callback, beside it the arguments of the class"
            ) from error
    return made


def callback_list(
    callbacks: Sequence[Any],
    model: Any,
    optimizer: Any,
    epochs: int,
    steps: int,
) -> Any:
    """A CallbackList of the model's Keras; `release` the model afterwards."""
    library = keras
    if keras_version(model) == 2:
        import tf_keras

        library = tf_keras
    # Not by assignment: a tracked optimizer would be exported.
    object.__setattr__(model, "optimizer", optimizer)
    object.__setattr__(model, "stop_training", False)
    return library.callbacks.CallbackList(
        list(callbacks), model=model, epochs=epochs, steps=steps
    )


def release(model: Any) -> None:
    """Takes from the model the optimizer that callbacks saw there."""
    object.__setattr__(model, "optimizer", None)
