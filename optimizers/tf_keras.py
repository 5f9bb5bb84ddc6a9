"""Lion for Keras 2, the package tf_keras, over the same ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from optimizers import gradients
from optimizers.dispatch import Slots
from optimizers.lion_rule import LionRule, check_arguments

_Schedule = tf_keras.optimizers.schedules.LearningRateSchedule


@tf_keras.saving.register_keras_serializable(package="lion_ctr")
class Lion(LionRule, tf_keras.optimizers.Optimizer):
    """Lion as a Keras 2 optimizer: see `optimizers.Lion` for the rule.

    The numbers are those of `optimizers.Lion`. The slot is named `m`, as in
    `tf_keras.optimizers.Lion`, whose saved state this class loads (modes lazy
    and dense).

    Args:
        learning_rate: number >= 0 or a Keras 2 LearningRateSchedule.
        beta_1, beta_2, weight_decay, sparse, kernel, momentum_dtype, cautious,
            stochastic_rounding, frequency_power: as in `optimizers.Lion`.
        **keras_optimizer_arguments: name, clipnorm, clipvalue,
            global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            jit_compile. Clipping sees sparse gradients with their rows summed.

    Example:
        >>> from optimizers import tf_keras as lion_tf_keras
        >>> optimizer = lion_tf_keras.Lion(1e-4, weight_decay=0.01)
        >>> model.compile(optimizer)  # a tfrs.Model, say
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
        name: str = "Lion",
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
        if callable(learning_rate) and not isinstance(learning_rate, _Schedule):
            raise ValueError(
                "`learning_rate` must be a number >= 0 or a "
                "tf_keras.optimizers.schedules.LearningRateSchedule. "
                f"Received: {learning_rate!r}"
            )
        kernel_in_use = check_arguments(learning_rate, weight_decay, **own)
        super().__init__(
            name, weight_decay=weight_decay, **keras_optimizer_arguments
        )
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.set_rule(kernel_in_use, **own)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots: `m`, and what the mode needs per row."""
        if getattr(self, "_built", False):
            return
        super().build(var_list)
        if self.momentum_dtype is None:
            self.momentums = [
                self.add_variable_from_reference(v, "m") for v in var_list
            ]
        else:
            self.momentums = [
                self._add_slot(v, "m", v.shape, self.momentum_dtype)
                for v in var_list
            ]
        if self.sparse == "decayed":
            self.last_steps = [
                self._add_slot(v, "last_step", v.shape[:1], "int32")
                for v in var_list
            ]
        if self.frequency_power:
            self.seen = [
                self._add_slot(v, "seen", v.shape[:1], "int32")
                for v in var_list
            ]
        self._built = True

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """Applies the rule to one variable."""
        index = self._index_dict[self._var_key(variable)]
        self.apply_rule(
            gradient,
            variable,
            self.learning_rate,
            Slots(
                self.momentums[index],
                self.last_steps[index] if self.sparse == "decayed" else None,
                self.seen[index] if self.frequency_power else None,
            ),
            seed=index,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, so that `from_config` makes the same."""
        rate = self._serialize_hyperparameter(self._learning_rate)
        config: dict[str, Any] = super().get_config()
        return {**config, "learning_rate": rate, **self.rule_config()}

    def _add_slot(
        self, variable: tf.Variable, slot: str, shape: Any, dtype: str
    ) -> tf.Variable:
        strategy = tf.distribute.get_strategy()
        with strategy.extended.colocate_vars_with(variable):
            name = f"{slot}/{variable.name.removesuffix(':0')}"
            return self.add_variable(shape, dtype, name=name)

    def _clip_gradients(self, grads: Sequence[Any]) -> Any:
        limits = (self.clipnorm, self.global_clipnorm, self.clipvalue)
        sparse = any(isinstance(g, tf.IndexedSlices) for g in grads)
        if sparse and any(limits):
            return gradients.clip(grads, *limits)
        return super()._clip_gradients(grads)

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Keras's sum of equal rows; the ops do it themselves."""
        return grads

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Keras's pass over the whole table; ours is inside the update."""
