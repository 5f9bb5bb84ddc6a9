"""Lion (arXiv 2302.06675) as a Keras 3 optimizer, with sparse row updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from optimizers.dispatch import Slots
from optimizers.lion_rule import LionRule, check_arguments
from optimizers.sparse_optimizer import SparseOptimizer


@keras.saving.register_keras_serializable(package="lion_ctr")
class Lion(LionRule, SparseOptimizer):
    """Lion: the sign of an interpolated momentum is the update.

    With learning rate η, decoupled weight decay λ, momentum m, gradient g and
    before-update values on the right:

        c = β1·m + (1 - β1)·g
        θ = θ - η·(sign(c) + λ·θ)
        m = β2·m + (1 - β2)·g

    A gradient that is tf.IndexedSlices is first summed per distinct row. Then
    the mode `sparse` decides:

    - `"lazy"`: the rule on the batch's rows only, decay included. The cost
      does not depend on the table's size.
    - `"decayed"`: as lazy, and before the rule m becomes β2^k·m for the k
      steps that the row sat out (one int32 per row, the slot `last_step`).
    - `"dense"`: the rule on the whole table. A row seen once keeps moving by
      η per step for thousands of steps, because sign ignores magnitude.

    With `frequency_power` p > 0 a row has a rate of its own: η·n^-p in the
    n-th update that its batch had a gradient for it, so η in the first (one
    int32 per row, the slot `seen`). Decay goes by the row's rate as well. A
    gradient that is no tf.IndexedSlices has the rate η and counts nothing.

    The slot is named `momentum` and ordered as in `keras.optimizers.Lion`,
    whose saved state this class loads (modes lazy and dense). bfloat16 and
    float16 weights are computed in float32. EMA, where it is switched on, is
    Keras's own and passes over the whole table in every mode.

    Args:
        learning_rate: number >= 0, a Keras LearningRateSchedule, or a callable
            without arguments.
        beta_1: share of the momentum in the update, in [0, 1).
        beta_2: decay of the momentum, in [0, 1).
        weight_decay: λ >= 0; None means 0. See `exclude_from_weight_decay`.
        sparse: "lazy", "decayed" or "dense".
        kernel: "custom_op" (the op library's CPU kernels), "xla" (updates
            compiled by XLA), "python" (pure TensorFlow) or "auto": the
            library if it is built, on a GPU or TPU compiled. A function with
            `jit_compile=True` compiles the update too, whatever the kernel.
            `kernel_in_use` tells what runs.
        momentum_dtype: dtype of the momentum; None means the variable's. A
            bfloat16 momentum is rounded at random, by a hash of the variable,
            the element and the step.
        cautious: drop update elements whose sign disagrees with the gradient
            and divide the others by the kept fraction, at least 0.001 (arXiv
            2411.16085); the fraction is taken per row for sparse gradients
            unless `sparse` is "dense".
        stochastic_rounding: round bfloat16 and float16 weights at random too,
            lest updates below half a unit in their last place vanish.
        frequency_power: p in [0, 1], for tables of ids; 0 with sparse "dense".
        **keras_optimizer_arguments: name, clipnorm, clipvalue,
            global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps. Clipping sees
            sparse gradients with their rows summed.

    Example:
        >>> optimizer = Lion(1e-4, weight_decay=0.01, sparse="lazy")
        >>> model.compile(optimizer, loss="binary_crossentropy")
    """

    def __init__(
        self,
        learning_rate: Any = 1e-4,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float | None = 0.0,
        sparse: str = "lazy",
        kernel: str = "auto",
        momentum_dtype: str | None = None,
        cautious: bool = False,
        stochastic_rounding: bool = False,
        frequency_power: float = 0.0,
        **keras_optimizer_arguments: Any,
    ) -> None:
        own: dict[str, Any] = {
            "beta_1": beta_1,
            "beta_2": beta_2,
            "sparse": sparse,
            "kernel": kernel,
            "momentum_dtype": momentum_dtype,
            "cautious": cautious,
            "stochastic_rounding": stochastic_rounding,
            "frequency_power": frequency_power,
        }
        kernel_in_use = check_arguments(learning_rate, weight_decay, **own)
        super().__init__(
            learning_rate=(
                learning_rate
                if callable(learning_rate)
                else float(learning_rate)
            ),
            weight_decay=weight_decay,
            **keras_optimizer_arguments,
        )
        self.set_rule(kernel_in_use, **own)

    def build(self, var_list: Sequence[Any]) -> None:
        """Creates the slots: `momentum`, and what the mode needs per row."""
        if self.built:
            return
        super().build(var_list)
        if self.momentum_dtype is None:
            self._momentums = self.add_optimizer_variables(var_list, "momentum")
        else:
            self._momentums = [
                self.add_slot(v, "momentum", v.shape, self.momentum_dtype)
                for v in var_list
            ]
        if self.sparse == "decayed":
            self._last_steps = [
                self.add_slot(v, "last_step", v.shape[:1], "int32")
                for v in var_list
            ]
        if self.frequency_power:
            self._seen = [
                self.add_slot(v, "seen", v.shape[:1], "int32") for v in var_list
            ]
        self.build_row_marks(var_list)

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        """Applies the rule to one variable (a tf.Variable)."""
        index = self._get_variable_index(variable)
        last_step = (
            self._last_steps[index].value if self.sparse == "decayed" else None
        )
        self.apply_rule(
            gradient,
            variable,
            learning_rate,
            Slots(
                self._momentums[index].value,
                last_step,
                self._seen[index].value if self.frequency_power else None,
            ),
            seed=index,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, so that `from_config` makes the same."""
        config: dict[str, Any] = super().get_config()
        return {**config, **self.rule_config()}

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Keras's pass over the whole table; ours is inside the update."""
