"""A user's own model: its code's version, and what it must be."""

from __future__ import annotations

from typing import Any

from models import user_code
from models.config.architectures import ModelConfig, OwnConfig
from models.errors import InputError
from models.preprocessing.input_layout import Layout


def own_version(config: ModelConfig) -> str:
    """Changes when the code of the user's own model changes; "" without one.

    The module is looked for, not imported.

    Raises:
        InputError: there is no such module.
    """
    if not isinstance(config, OwnConfig):
        return ""
    return user_code.module_version(config.name, "model.name")


def build(
    builder: Any, layout: Layout, config: OwnConfig, base_rate: float
) -> Any:
    """The model that the user's function returns, checked.

    Raises:
        InputError: it raises, or returns no built model that gives logits.
    """
    import keras
    import tf_keras

    if not callable(builder):
        raise InputError(
            f"model.name: {config.name} cannot be called. Accepted:"
            " def build(layout, config, base_rate)"
        )
    try:
        model = builder(layout, config, base_rate)
    except Exception as error:
        raise InputError(
            f"model.name: {config.name} raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, keras.Model | tf_keras.Model):
        raise InputError(
            f"model.name: {config.name} must return a keras.Model or a"
            f" tf_keras.Model. Received: {type(model).__name__}"
        )
    if not model.built:
        raise InputError(
            f"model.name: {config.name} must return a model that is built:"
            " its variables exist before the first batch. Call it once, or"
            " build its layers and set model.built = True"
        )
    _check_logits(model, layout, config)
    return model


def _check_logits(model: Any, layout: Layout, config: OwnConfig) -> None:
    from models.preprocessing.dummy_rows import empty_rows

    try:
        logits = model(empty_rows(layout, 2), training=False)
    except Exception as error:
        raise InputError(
            f"model.name: the model of {config.name}, called with two rows,"
            f" raised {type(error).__name__}: {error}"
        ) from error
    shape = getattr(logits, "shape", None)
    if shape is None or tuple(shape) != (2,):
        received = type(logits).__name__ if shape is None else list(shape)
        raise InputError(
            f"model.name: the model of {config.name} must give logits [N],"
            f" one number a row. Received for two rows: {received}"
            + ("; return logits[:, 0]" if received == [2, 1] else "")
        )
