"""Moving averages of the weights (`use_ema`), in the model when they count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from models.variables import local_replica


class Averages:
    """Moving averages of an optimizer with `use_ema`.

    The averages are evaluated, judged by early stopping and exported; training
    goes on with the weights. Without `use_ema` nothing is done.

    Args:
        model: whose weights are averaged.
        optimizer: of Keras 3 or 2, built; or one of several groups.
        strategy: where the replicas are.
    """

    def __init__(self, model: Any, optimizer: Any, strategy: Any) -> None:
        self._variables = model.trainable_variables
        self._optimizer = optimizer
        self._strategy = strategy
        groups = getattr(optimizer, "groups", {"": optimizer}).values()
        self._averaging = [one for one in groups if one.use_ema]

    def begin(self) -> None:
        """Lets a fresh training's averages begin at its weights.

        Keras does so in its own first step only, which a warm start is not.
        """
        for optimizer in self._averaging:
            averages = optimizer._model_variables_moving_average
            for variable in self._variables:
                index = _index(optimizer, variable)
                if index is not None and averages[index] is not None:
                    averages[index].assign(local_replica(variable))

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Puts the averages in the place of the weights for a while.

        The weights are copied meanwhile.
        """
        if not self._averaging:
            yield
            return
        kept = [tf.identity(local_replica(v)) for v in self._variables]
        self.put()
        try:
            yield
        finally:
            for variable, weights in zip(self._variables, kept, strict=True):
                variable.assign(weights)

    def put(self) -> None:
        """Replaces the weights by their averages, for good."""
        if self._averaging:
            with self._strategy.scope():
                self._optimizer.finalize_variable_values(self._variables)


def _index(optimizer: Any, variable: Any) -> int | None:
    """The place of `variable` in the optimizer's lists; None if it has none."""
    places = getattr(optimizer, "_trainable_variables_indices", None)
    if places is None:  # Keras 2
        places = optimizer._index_dict
    place: int | None = places.get(optimizer._var_key(variable))
    return place
