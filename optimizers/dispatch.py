"""One step of Lion on one variable, by the function of the kernel that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from optimizers import gradients
from optimizers.ops import custom_op, python, xla
from optimizers.ops.rounding import Scalar
from optimizers.ops.rows import compute_dtype, scalar

_KERNELS: dict[str, Any] = {
    "custom_op": custom_op,
    "xla": xla,
    "python": python,
}


@dataclass(frozen=True)
class Hyperparameters:
    """Lion's rule for one variable; see `optimizers.lion.Lion`."""

    learning_rate: Scalar
    beta_1: float
    beta_2: float
    weight_decay: float
    cautious: bool = False
    stochastic_rounding: bool = False
    frequency_power: float = 0.0


class Slots(NamedTuple):
    """State of one variable.

    m: the momentum.
    last_step: int32 [rows] of the mode "decayed", None in the others.
    seen: int32 [rows] of `frequency_power`, None where that is 0.
    """

    m: tf.Variable
    last_step: tf.Variable | None = None
    seen: tf.Variable | None = None


def apply(
    kernel: str,
    variable: tf.Variable,
    slots: Slots,
    gradient: Any,
    rule: Hyperparameters,
    step: tf.Tensor,
    seed: int,
) -> None:
    """Applies one step to one variable.

    Args:
        kernel: "custom_op", "xla" or "python".
        variable: the weights.
        slots: their state.
        gradient: tf.Tensor, tf.IndexedSlices or `gradients.MarkedRows`.
        rule: see there.
        step: number of this step, from 1; int32.
        seed: of the rounding at random; another per variable.
    """
    common = {
        "var": variable,
        "m": slots.m,
        # A tf.function takes no Keras variable; "xla" is one.
        "lr": scalar(rule.learning_rate, compute_dtype(variable.dtype)),
        "beta_1": rule.beta_1,
        "beta_2": rule.beta_2,
        "weight_decay": rule.weight_decay,
        "cautious": rule.cautious,
        "stochastic": rule.stochastic_rounding,
        "seed": seed,
        "step": step,
    }
    counted: dict[str, Any] = {
        "seen": slots.seen,
        "frequency_power": rule.frequency_power,
    }
    ops, last_step = _KERNELS[kernel], slots.last_step
    if isinstance(gradient, gradients.MarkedRows):
        python.apply_lion_to_marked_rows(
            **common,
            **counted,
            grad=gradient.values,
            marks=gradient.marks,
            last_step=last_step,
        )
    elif not isinstance(gradient, tf.IndexedSlices):
        if last_step is not None:
            python.catch_up(slots.m, last_step, step, rule.beta_2)
        ops.resource_apply_lion(**common, grad=gradient)
    else:
        common |= {"grad": gradient.values, "indices": gradient.indices}
        if last_step is None:
            ops.resource_sparse_apply_lion(**common, **counted)
        else:
            ops.resource_sparse_apply_decayed_lion(
                **common, **counted, last_step=last_step
            )
