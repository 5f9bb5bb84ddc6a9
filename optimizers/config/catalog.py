"""Every optimizer that a config may name: its class, arguments, defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from optimizers.config.arguments import (
    MOMENTUM_DTYPES,
    SPARSE_MODES,
    Argument,
    boolean,
    choice,
    integer,
    number,
)
from optimizers.extension import Registry
from optimizers.kernel import KERNELS

POSITIVE = number(0, above=True)
NON_NEGATIVE = number(0)
FRACTION = number(0, 1)
BETA = number(0, 1, below=True)
_LIMIT = number(0, above=True, optional=True)
_EPSILON = NON_NEGATIVE.with_default(1e-7)

AUTO = "auto"
"""A setting that is chosen from the log before training."""

KERAS_ARGUMENTS = {
    "learning_rate": POSITIVE.with_default(0.001),
    "weight_decay": number(0, optional=True),
    "clipnorm": _LIMIT,
    "clipvalue": _LIMIT,
    "global_clipnorm": _LIMIT,
    "use_ema": boolean(),
    "ema_momentum": FRACTION.with_default(0.99),
    "ema_overwrite_frequency": integer(1, optional=True),
    "loss_scale_factor": _LIMIT,
    "gradient_accumulation_steps": integer(2, optional=True),
}
"""The arguments that every Keras optimizer accepts."""

LIMITS = ("clipnorm", "clipvalue", "global_clipnorm")
"""Names among them of which one may be given."""

NOT_IN_KERAS_2 = ("loss_scale_factor", "gradient_accumulation_steps")
"""Names among them that tf_keras's optimizers do not have."""

LION_ARGUMENTS = {
    "beta_1": BETA.with_default(0.9),
    "beta_2": BETA.with_default(0.99),
    "sparse": choice(SPARSE_MODES).with_default("lazy"),
    "kernel": choice(KERNELS).with_default("auto"),
    "momentum_dtype": choice(MOMENTUM_DTYPES, optional=True),
    "cautious": boolean(),
    "stochastic_rounding": boolean(),
    "frequency_power": FRACTION.with_default(0.0),
}
"""Lion's own."""

_ADAM = {
    "beta_1": BETA.with_default(0.9),
    "beta_2": BETA.with_default(0.999),
    "epsilon": _EPSILON,
    "amsgrad": boolean(),
}
_ZERO = NON_NEGATIVE.with_default(0.0)


@dataclass(frozen=True)
class Entry:
    """An optimizer.

    target: package.module:Class.
    arguments: beyond `KERAS_ARGUMENTS`.
    defaults: of those, where it has others.
    """

    target: str
    arguments: dict[str, Argument]
    defaults: dict[str, Any] = field(default_factory=dict)

    def all_arguments(self) -> dict[str, Argument]:
        """Every argument, with the default of this optimizer."""
        found = {**KERAS_ARGUMENTS, **self.arguments}
        for name, default in self.defaults.items():
            found[name] = found[name].with_default(default)
        return found


OPTIMIZERS = {
    "adafactor": Entry(
        "keras.optimizers:Adafactor",
        {
            "beta_2_decay": number().with_default(-0.8),
            "epsilon_1": NON_NEGATIVE.with_default(1e-30),
            "epsilon_2": NON_NEGATIVE.with_default(1e-3),
            "clip_threshold": POSITIVE.with_default(1.0),
            "relative_step": boolean(True),
        },
    ),
    "adagrad": Entry(
        "keras.optimizers:Adagrad",
        {
            "initial_accumulator_value": NON_NEGATIVE.with_default(0.1),
            "epsilon": _EPSILON,
        },
    ),
    "adam": Entry("keras.optimizers:Adam", _ADAM),
    "adamw": Entry("keras.optimizers:AdamW", _ADAM, {"weight_decay": 0.004}),
    "ftrl": Entry(
        "keras.optimizers:Ftrl",
        {
            "learning_rate_power": number(high=0).with_default(-0.5),
            "initial_accumulator_value": NON_NEGATIVE.with_default(0.1),
            "l1_regularization_strength": _ZERO,
            "l2_regularization_strength": _ZERO,
            "l2_shrinkage_regularization_strength": _ZERO,
            "beta": _ZERO,
        },
    ),
    "lion": Entry(
        "optimizers.lion:Lion",
        LION_ARGUMENTS,
        {"learning_rate": 1e-4, "weight_decay": 0.0},
    ),
    "rmsprop": Entry(
        "keras.optimizers:RMSprop",
        {
            "rho": FRACTION.with_default(0.9),
            "momentum": FRACTION.with_default(0.0),
            "epsilon": _EPSILON,
            "centered": boolean(),
        },
    ),
    "sgd": Entry(
        "keras.optimizers:SGD",
        {"momentum": FRACTION.with_default(0.0), "nesterov": boolean()},
        {"learning_rate": 0.01},
    ),
}

CLASSES = Registry(
    "optimizer",
    "optimizer.name",
    {name: entry.target for name, entry in OPTIMIZERS.items()},
    "a class of Keras 3 optimizers, which takes the arguments beside the name",
)

SCHEDULES = ("constant", "cosine", "exponential", "linear")

FIXED_RATE = ("ftrl",)
"""Optimizers whose weights are a function of the current learning rate.

Keras's FTRL recomputes w = -z / (sqrt(n) / rate + ...) at every step, so a
rate that falls to 0 takes the weights to 0 with it. A schedule of the whole
run leaves such a group alone.
"""

TABLE_ARGUMENTS = {
    "table_rate": POSITIVE,
    "table_beta_2": BETA,
    "table_frequency_power": FRACTION,
}
"""Arguments of embedding tables apart from the rest, in a spec of one."""


def names() -> tuple[str, ...]:
    """Returns the optimizers that a spec may name, sorted."""
    return CLASSES.names


def defaults(name: str) -> dict[str, Any]:
    """Argument -> default, of the optimizer that the config calls `name`."""
    arguments = OPTIMIZERS[name].all_arguments()
    return {key: argument.default for key, argument in arguments.items()}
