"""A configuration's optimizers for Keras 2, the package tf_keras."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from optimizers import gradients
from optimizers import tf_keras as lion
from optimizers.config.schedules import WarmupDecay
from optimizers.groups import FirstMatch


class Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A `WarmupDecay` for Keras 2."""

    def __init__(self, schedule: WarmupDecay) -> None:
        self._schedule = schedule

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate of step `step`."""
        return self._schedule(step)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the `WarmupDecay`."""
        return self._schedule.get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """Returns the schedule that `get_config` describes."""
        return cls(WarmupDecay(**config))


class _SparseClipping:
    """Mixin: clips tf.IndexedSlices as if they were dense.

    Keras clips before it sums the rows that occur more than once.
    """

    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None

    def _clip_gradients(self, grads: Sequence[Any]) -> Any:
        limits = (self.clipnorm, self.global_clipnorm, self.clipvalue)
        if any(limits):
            return gradients.clip(grads, *limits)
        return grads


def optimizer_class(name: str) -> Any:
    """Returns the class of tf_keras.optimizers, or ours for "Lion"."""
    if name == "Lion":
        return lion.Lion
    stock = getattr(tf_keras.optimizers, name)
    return type(name, (_SparseClipping, stock), {})


class GroupedOptimizer(tf_keras.optimizers.Optimizer):
    """One optimizer per group of variables: see `optimizers.groups`.

    Args:
        optimizer_map: which optimizer is whose.
        name: the optimizer's name.
    """

    def __init__(
        self, optimizer_map: FirstMatch, name: str = "GroupedOptimizer"
    ) -> None:
        super().__init__(name, jit_compile=False)
        self._map = optimizer_map
        # tf.train.Checkpoint follows attributes.
        self._members = optimizer_map.values()

    @property
    def groups(self) -> dict[str, Any]:
        """The optimizer of each pattern, in order of precedence."""
        return dict(self._map.optimizers)

    @property
    def variables(self) -> list[tf.Variable]:
        """Those of all groups, after the count of steps."""
        own = [self.iterations]
        return own + [v for one in self._members for v in one.variables]

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Builds each group's optimizer on the variables it matches."""
        if getattr(self, "_built", False):
            return
        self._map.warn_of_idle(var_list)
        for pattern, optimizer in self.groups.items():
            optimizer.build(
                [v for v in var_list if self._map.pattern(v) == pattern]
            )
        self._built = True

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, tf.Variable]],
        *args: Any,
        **kwargs: Any,
    ) -> tf.Variable:
        """Updates each variable with its group's optimizer."""
        pairs = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in pairs])
        for pattern, optimizer in self.groups.items():
            of_group = [
                (gradient, variable)
                for gradient, variable in pairs
                if self._map.pattern(variable) == pattern
            ]
            if of_group:
                optimizer.apply_gradients(of_group, *args, **kwargs)
        return self.iterations.assign_add(1)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Lets each group put its averages in the place of the weights."""
        for pattern, optimizer in self.groups.items():
            optimizer.finalize_variable_values(
                [v for v in var_list if self._map.pattern(v) == pattern]
            )

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """The groups' optimizers do this."""
        raise AssertionError("apply_gradients hands all to the groups")

    def get_config(self) -> dict[str, Any]:
        """Not for one with other optimizers inside: the config makes it."""
        raise NotImplementedError(
            "Build it again with optimizers.build_optimizer(spec, steps, 2)"
        )
