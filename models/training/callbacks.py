"""Keras's callbacks: those of the config, and the list that is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from models.config.training import CALLBACKS, TrainConfig
from models.errors import InputError
from models.keras_versions import keras_version

LOGS = {"loss": min, "logloss": min, "auc": max}
"""Keys of an epoch's logs, also after `val_`, and which value is better.

`logloss`, `auc` and all of `val_` are those of the last evaluation; `loss` is
that of the last steps of training, `val_loss` the logloss.
"""


def configured(config: TrainConfig) -> list[Any]:
    """The callbacks that `train.callbacks` names.

    Raises:
        InputError: one of them cannot be made.
    """
    made = []
    for position, callback in enumerate(config.callbacks):
        try:
            made.append(
                CALLBACKS.make(
                    callback.name,
                    f"train.callbacks.{position}",
                    callback.model_extra,
                )
            )
        except ValueError as error:
            raise InputError(str(error)) from error
    return made


def callback_list(
    callbacks: Sequence[Any],
    model: Any,
    optimizer: Any,
    epochs: int,
    steps: int,
) -> Any:
    """A CallbackList of the model's Keras; `release` the model afterwards.

    Raises:
        InputError: a callback could not do its work in this training.
    """
    for callback in callbacks:
        _check(callback, optimizer)
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


def _check(callback: Any, optimizer: Any) -> None:
    """Refuses what would fail, or do nothing, after an epoch; sets `auto`."""
    name = type(callback).__name__
    where = f"train.callbacks: {name}"
    if name == "SwapEMAWeights":
        raise InputError(
            f"{where} must be left out: with optimizer.use_ema the averages"
            " are evaluated and exported as it is. Received: a second swap"
        )
    changes_rate = name in ("ReduceLROnPlateau", "LearningRateScheduler")
    groups = getattr(optimizer, "groups", {"": optimizer}).values()
    if changes_rate and any(callable(_rate(one)) for one in groups):
        raise InputError(
            f"{where} needs a learning rate that it may set. Received:"
            " optimizer.schedule. Leave out one of the two"
        )
    monitor = getattr(callback, "monitor", None)
    if monitor is None:
        return
    better = LOGS.get(str(monitor).removeprefix("val_"))
    if better is None:
        known = [f"{prefix}{log}" for prefix in ("", "val_") for log in LOGS]
        raise InputError(
            f"{where}: `monitor` must be one of {', '.join(known)}."
            f" Received: {monitor!r}"
        )
    if getattr(callback, "mode", None) == "auto":
        callback.mode = better.__name__
    elif better is max and callback.__module__.startswith("tf_keras."):
        # Keras 2 takes the AUC for a loss.
        callback.monitor_op, callback.best = np.greater, -np.inf


def _rate(optimizer: Any) -> Any:
    return getattr(optimizer, "_learning_rate", None)


def release(model: Any) -> None:
    """Takes from the model the optimizer that callbacks saw there."""
    object.__setattr__(model, "optimizer", None)
