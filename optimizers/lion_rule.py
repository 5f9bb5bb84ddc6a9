"""Lion in Keras 2 and Keras 3: its arguments and its update."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import tensorflow as tf
from pydantic import ValidationError

from optimizers import dispatch, gradients
from optimizers.config.arguments import LionArguments
from optimizers.config.messages import problems
from optimizers.dispatch import Hyperparameters, Slots
from optimizers.kernel import resolve_kernel
from optimizers.mirrored import on_this_device
from optimizers.ops import library


class LionRule:
    """Mixin for a Keras optimizer: checks, keeps and applies Lion's arguments.

    The optimizer brings `iterations`, `weight_decay` and `_use_weight_decay`.
    """

    iterations: Any
    weight_decay: float | None
    _use_weight_decay: Callable[[Any], bool]

    def set_rule(
        self,
        kernel_in_use: str,
        beta_1: float,
        beta_2: float,
        sparse: str,
        kernel: str,
        momentum_dtype: str | None,
        cautious: bool,
        stochastic_rounding: bool,
        frequency_power: float,
    ) -> None:
        """Keeps arguments that `check_arguments` has passed."""
        self.kernel_in_use = kernel_in_use
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.sparse = sparse
        self.kernel = kernel
        self.momentum_dtype = momentum_dtype
        self.cautious = cautious
        self.stochastic_rounding = stochastic_rounding
        self.frequency_power = frequency_power

    @property
    def row_wise(self) -> bool:
        """True if a sparse gradient updates its own rows and no other."""
        return self.sparse != "dense"

    def apply_rule(
        self,
        gradient: Any,
        variable: tf.Variable,
        learning_rate: Any,
        slots: Slots,
        seed: int,
    ) -> None:
        """Applies one step to one variable.

        Args:
            gradient: tf.Tensor, tf.IndexedSlices or `gradients.MarkedRows`.
            variable: the weights.
            learning_rate: scalar.
            slots: their state.
            seed: of the rounding at random; another per variable.
        """
        decay = self.weight_decay or 0.0
        if decay and not self._use_weight_decay(variable):
            decay = 0.0
        rule = Hyperparameters(
            learning_rate,
            self.beta_1,
            self.beta_2,
            decay,
            self.cautious,
            self.stochastic_rounding,
            self.frequency_power,
        )
        variable = on_this_device(variable)
        if not self.row_wise:
            gradient = gradients.densify(gradient, variable)
        dispatch.apply(
            self.kernel_in_use,
            variable,
            Slots(*(s if s is None else on_this_device(s) for s in slots)),
            gradient,
            rule,
            tf.cast(self.iterations, tf.int32) + 1,
            seed,
        )

    def rule_config(self) -> dict[str, Any]:
        """Returns Lion's own arguments, for `get_config`."""
        return {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "sparse": self.sparse,
            "kernel": self.kernel,
            "momentum_dtype": self.momentum_dtype,
            "cautious": self.cautious,
            "stochastic_rounding": self.stochastic_rounding,
            "frequency_power": self.frequency_power,
        }


def check_arguments(
    learning_rate: Any, weight_decay: float | None, kernel: str, **own: Any
) -> str:
    """Returns the kernel that runs; loads the op library if it may be used.

    Raises:
        ValueError: names the argument, what is accepted and what was received.
    """
    given = {"weight_decay": weight_decay, **own}
    # A config wants more than 0; a training may be told to stand still.
    still = isinstance(learning_rate, Real) and learning_rate == 0
    if not callable(learning_rate) and not still:
        given["learning_rate"] = learning_rate
    try:
        LionArguments.model_validate(given)
    except ValidationError as error:
        found, _ = problems(error, LionArguments)
        raise ValueError(
            "; ".join(f"`{name}`: {text}" for name, text in found.items())
        ) from error
    if kernel != "python":
        library.load()
    return resolve_kernel(kernel)
