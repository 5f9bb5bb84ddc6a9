"""Divergence: the values that are no longer finite, and its message."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.checkpointing.checkpoint import Checkpoints
from models.variables import local_replica
from optimizers.groups import variable_path


def diverged(
    when: str, what: str, checkpoints: Checkpoints | None
) -> FloatingPointError:
    """The error, with advice.

    Args:
        when: "at step 3", "by step 3".
        what: a sentence without its stop.
        checkpoints: those of the training, if it has some.
    """
    advice = "Lower optimizer.learning_rate"
    if checkpoints is not None and checkpoints.newest():
        advice += f"; the last good checkpoint is kept in {checkpoints.folder}"
    return FloatingPointError(f"Training diverged {when}: {what}. {advice}")


def not_finite(model: Any) -> str | None:
    """The first weight with such values.

    Tables are not looked at: theirs are seen when they are saved.
    """
    for variable in model.trainable_variables:
        value = local_replica(variable)
        if value.shape.num_elements() > 1 << 24:
            continue
        if not bool(tf.reduce_all(tf.math.is_finite(value))):
            return variable_path(variable)
    return None
