"""Hidden layers, of either Keras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from models.config.architectures import ModelConfig
from models.layers.dropout import Dropout


def dense_layers(
    kind: Any,
    prefix: str,
    units: Sequence[int],
    config: ModelConfig,
    dropout: bool = True,
    dtype: str | None = None,
) -> list[Any]:
    """ReLU layers in the order in which they are called.

    Args:
        kind: keras.layers or tf_keras.layers.
        prefix: of their names: <prefix>_0, <prefix>_0_norm, <prefix>_1, ...
        units: width of each.
        config: tells whether there are batch norms, and how much dropout.
        dropout: whether there is any here.
        dtype: None is the global policy.
    """
    layers = []
    for i, width in enumerate(units):
        name = f"{prefix}_{i}"
        relu = None if config.batch_norm else "relu"
        layers.append(
            kind.Dense(width, activation=relu, name=name, dtype=dtype)
        )
        if config.batch_norm:
            # With Keras's 0.99 the averages of a short run would still be
            # what they began with.
            layers += [
                kind.BatchNormalization(
                    momentum=0.9, name=f"{name}_norm", dtype=dtype
                ),
                kind.ReLU(name=f"{name}_relu", dtype=dtype),
            ]
        if dropout and config.dropout:
            make = kind.Dropout if kind is keras.layers else Dropout
            layers.append(
                make(config.dropout, name=f"{name}_drop", dtype=dtype)
            )
    return layers


def head(
    kind: Any, initializers: Any, base_rate: float, name: str = "out"
) -> Any:
    """The layer that gives the logit, in float32.

    Clicks are rare, and a sign update moves a weight by the learning rate at
    most. A bias that starts at 0 would take long.
    """
    logit = math.log(base_rate / (1 - base_rate))
    return kind.Dense(
        1,
        bias_initializer=initializers.Constant(logit),
        name=name,
        dtype="float32",
    )


def apply_layers(layers: Sequence[Any], x: Any) -> Any:
    """`x` through all layers."""
    for layer in layers:
        x = layer(x)
    return x


def triangle(fields: int) -> list[int]:
    """Where the pairs i > j lie in a flattened [fields, fields] matrix."""
    return [i * fields + j for i in range(fields) for j in range(i)]
