"""Every optimizer that a config may name: its class, arguments, defaults."""

from __future__ import annotations

from typing import Any

from optimizers.config import arguments
from optimizers.config.section import AUTO
from optimizers.extension import Registry

__all__ = [
    "ARGUMENTS",
    "AUTO",
    "CLASSES",
    "FIXED_RATE",
    "NOT_IN_KERAS_2",
    "TABLE_ARGUMENTS",
    "defaults",
    "names",
]

_OPTIMIZERS: dict[str, tuple[type[arguments.Arguments], str]] = {
    "adafactor": (arguments.AdafactorArguments, "keras.optimizers:Adafactor"),
    "adagrad": (arguments.AdagradArguments, "keras.optimizers:Adagrad"),
    "adam": (arguments.AdamArguments, "keras.optimizers:Adam"),
    "adamw": (arguments.AdamwArguments, "keras.optimizers:AdamW"),
    "ftrl": (arguments.FtrlArguments, "keras.optimizers:Ftrl"),
    "lion": (arguments.LionArguments, "optimizers.lion:Lion"),
    "rmsprop": (arguments.RmspropArguments, "keras.optimizers:RMSprop"),
    "sgd": (arguments.SgdArguments, "keras.optimizers:SGD"),
}
ARGUMENTS = {name: section for name, (section, _) in _OPTIMIZERS.items()}
CLASSES = Registry(
    "optimizer",
    "optimizer.name",
    {name: target for name, (_, target) in _OPTIMIZERS.items()},
    "a class of Keras 3 optimizers, which takes the arguments beside the name",
)

TABLE_ARGUMENTS = ("table_rate", "table_beta_2", "table_frequency_power")
"""Arguments of embedding tables apart from the rest, in a spec of one."""

NOT_IN_KERAS_2 = ("loss_scale_factor", "gradient_accumulation_steps")
"""Arguments that tf_keras's optimizers do not have."""

FIXED_RATE = ("ftrl",)
"""Optimizers whose weights are a function of the current learning rate.

Keras's FTRL recomputes w = -z / (sqrt(n) / rate + ...) at every step, so a
rate that falls to 0 takes the weights to 0 with it. A schedule of the whole
run leaves such a group alone.
"""


def names() -> tuple[str, ...]:
    """Returns the optimizers that a spec may name, sorted."""
    return CLASSES.names


def defaults(name: str) -> dict[str, Any]:
    """Argument -> default, of the optimizer that the config calls `name`."""
    fields = ARGUMENTS[name].model_fields
    return {key: field.default for key, field in fields.items()}
