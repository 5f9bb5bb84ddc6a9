"""model.name -> the architecture's builder."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.config.architectures import ModelConfig, OwnConfig
from models.errors import InputError
from models.preprocessing.input_layout import Layout
from models.user_code import see_current_folder, version

_MODULES = {
    "wide_deep": "models.architectures.wide_deep",
    "dcn_v2": "models.architectures.dcn_v2",
    "dlrm": "models.architectures.dlrm",
    "deepfm": "models.architectures.deepfm",
    "tfrs_dcn": "models.keras2.tfrs_dcn",
    "tfrs_dlrm": "models.keras2.tfrs_dlrm",
}
Builder = Callable[[Layout, Any, float], Any]


def build_model(layout: Layout, config: ModelConfig, base_rate: float) -> Any:
    """A model of Keras 3, or 2, that maps transformed inputs to logits [N].

    Args:
        layout: of the inputs.
        config: the config section.
        base_rate: share of positive training rows, where predictions start.

    Raises:
        InputError: the user's own model cannot be had.
    """
    if isinstance(config, OwnConfig):
        builder = named(
            config.name,
            "model.name",
            f"def {config.name.partition(':')[2]}(layout, config, base_rate)",
        )
        return _called(builder, layout, config, base_rate)
    module = importlib.import_module(_MODULES[config.name])
    return module.build(layout, config, base_rate)


def own_version(config: ModelConfig) -> str:
    """Changes when the code of the user's own model changes; "" without one.

    The module is looked for, not imported.

    Raises:
        InputError: there is no such module.
    """
    if not isinstance(config, OwnConfig):
        return ""
    return module_version(config.name, "model.name")


def module_version(name: str, field: str) -> str:
    """Changes when the code around `package.module:name` changes.

    Args:
        name: see there.
        field: of the config, which a message names.
    """
    see_current_folder()
    module = name.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
        top = importlib.util.find_spec(module.partition(".")[0])
    except ImportError:  # of a package around it
        found = top = None
    if found is None or top is None or top.origin is None:
        raise InputError(
            f"{field}: there is no module {module!r} in the environment"
            f" or in {Path.cwd()}"
        )
    return version([module])


def named(name: str, field: str, wanted: str) -> Any:
    """What `package.module:name` names: something to call.

    Args:
        name: see there.
        field: of the config, which a message names.
        wanted: the line of code that was expected.

    Raises:
        InputError: it cannot be imported, or is nothing to call.
    """
    see_current_folder()
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        raise InputError(
            f"{field}: cannot import {module!r}:"
            f" {type(error).__name__}: {error}. It is looked for in the"
            f" environment and in {Path.cwd()}"
        ) from error
    if not callable(found):
        kind = wanted.partition(" ")[0].replace("def", "function")
        raise InputError(
            f"{field}: {module!r} has no {kind} {function!r}. Wanted: {wanted}"
        )
    return found


def _called(
    builder: Builder, layout: Layout, config: OwnConfig, base_rate: float
) -> Any:
    import keras
    import tf_keras

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
