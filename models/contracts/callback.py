"""Demands on every callback of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tf_keras

from models.architectures.registry import build_model
from models.config.architectures import ModelConfig
from models.config.training import TrainConfig
from models.contracts.rows import PLAIN, learnable
from models.keras_versions import start_afresh
from models.training import loop
from models.training.callbacks import configured
from optimizers.registry import build_optimizer

_ROWS = 200
_EPOCHS = 3


def check(name: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Trains with a callback, twice: its second training starts afresh.

    Args:
        name: as in the config, such as "my_callbacks:Stop".
        arguments: of the class.

    Raises:
        AssertionError: it says which demand is not met.
        InputError: the callback cannot be had, or cannot work in a training.
    """
    callback = {"name": name, **(arguments or {})}
    steps = [_steps(callback) for _ in range(2)]
    assert steps[0] > 0, "it stops before the first step"
    assert steps[0] == steps[1], (
        f"its second training ends after {steps[1]} steps, the first one after"
        f" {steps[0]}: it keeps state outside the object"
    )


def _steps(callback: Mapping[str, Any]) -> int:
    """Trains; how many steps there were."""
    config = TrainConfig.model_validate(
        {"batch_size": 20, "epochs": _EPOCHS, "callbacks": [callback]}
    )
    (made,) = configured(config)
    for library in (keras, tf_keras):
        if isinstance(made, library.callbacks.Callback):
            break
    else:
        raise AssertionError(
            f"it must be a Callback of Keras. Received: {type(made).__name__}"
        )
    start_afresh(1)
    name = "wide_deep" if library is keras else "tfrs_dcn"
    model = build_model(PLAIN, ModelConfig(name=name, hidden=(8,)), 0.5)
    optimizer = build_optimizer(
        {"name": "adam", "learning_rate": 0.01},
        _EPOCHS * _ROWS // 20,
        3 if library is keras else 2,
    )
    result = loop.train(
        model,
        optimizer,
        learnable(PLAIN, _ROWS, 1).batch(20),
        learnable(PLAIN, 100, 2).batch(100),
        _ROWS,
        config,
        callbacks=[made],
    )
    return result.steps
