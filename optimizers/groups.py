"""One optimizer per group of variables, the groups chosen by path."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="lion_ctr")
class FirstMatch:
    """Maps a variable to the optimizer of the first pattern that fits it.

    Args:
        optimizers: pattern -> optimizer, in order. A pattern is a regular
            expression that must match the whole path of the variable.
    """

    def __init__(self, optimizers: Mapping[str, Any]) -> None:
        self.optimizers = dict(optimizers)
        self._patterns = [re.compile(p) for p in self.optimizers]

    def __call__(self, variable: Any) -> Any:
        """Returns the optimizer for `variable`.

        Raises:
            ValueError: no pattern matches the variable's path.
        """
        return self.optimizers[self.pattern(variable)]

    def pattern(self, variable: Any) -> str:
        """Returns the first pattern that matches the variable's path."""
        path = variable_path(variable)
        for pattern in self._patterns:
            if pattern.fullmatch(path):
                return pattern.pattern
        raise ValueError(
            f"`optimizer.groups` must match every variable; none of "
            f"{list(self.optimizers)} matches the whole path {path!r}. "
            "Add a last group with match: '.*'"
        )

    def warn_of_idle(self, variables: Sequence[Any]) -> None:
        """Warns of patterns that are the first match of no variable."""
        matched = {self.pattern(v) for v in variables}
        paths = [variable_path(v) for v in variables]
        for pattern in self.optimizers:
            if pattern not in matched:
                warnings.warn(
                    f"The optimizer group {pattern!r} gets no variable. A "
                    "pattern must match a whole path and comes after the "
                    f"groups above it. The paths are: {', '.join(paths)}",
                    stacklevel=3,
                )

    def values(self) -> list[Any]:
        """Returns the optimizers in order, as MultiOptimizer asks for them."""
        return list(self.optimizers.values())

    def get_config(self) -> dict[str, Any]:
        """Returns patterns and serialized optimizers, in order."""
        serialize = keras.saving.serialize_keras_object
        return {
            "patterns": list(self.optimizers),
            "optimizers": [serialize(o) for o in self.optimizers.values()],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FirstMatch:
        """Returns the map that `get_config` describes."""
        deserialize = keras.saving.deserialize_keras_object
        optimizers = [
            deserialize(o) if isinstance(o, dict) else o
            for o in config["optimizers"]
        ]
        return cls(dict(zip(config["patterns"], optimizers, strict=True)))


@keras.saving.register_keras_serializable(package="lion_ctr")
class GroupedOptimizer(keras.optimizers.MultiOptimizer):
    """Keras's MultiOptimizer, with groups in order of precedence.

    Each group clips, accumulates and averages by itself: a `global_clipnorm`
    is the norm of the group. `iterations` counts calls of `apply`.

    Args:
        optimizer_map: a FirstMatch.
        loss_scale_factor: one for all groups.
        name: the optimizer's name.
    """

    def __init__(
        self,
        optimizer_map: FirstMatch,
        loss_scale_factor: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer_map, loss_scale_factor, name)
        # tf.train.Checkpoint follows attributes, not Keras's lists.
        for position, optimizer in enumerate(optimizer_map.values()):
            setattr(self, f"group_{position}", optimizer)

    def build(self, var_list: Sequence[Any]) -> None:
        """Builds each group's optimizer on the variables it matches."""
        if self.built:
            return
        self._optimizer_map.warn_of_idle(var_list)
        super().build(var_list)

    @property
    def groups(self) -> dict[str, Any]:
        """The optimizer of each pattern, in order of precedence."""
        return dict(self._optimizer_map.optimizers)

    def save_own_variables(self, store: Any) -> None:
        """Saves the step count; each group's optimizer saves itself."""
        store["iteration"] = self._iterations.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads the step count; each group's optimizer loads itself."""
        self._iterations.assign(store["iteration"])


def variable_path(variable: Any) -> str:
    """Returns the path of a Keras variable, or the name of a tf.Variable."""
    path = getattr(variable, "path", None)
    return str(path or variable.name.removesuffix(":0"))
