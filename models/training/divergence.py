"""Divergence: the values that are no longer finite, and its message."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.checkpointing.checkpoint import Checkpoints
from models.config.losses import LOSSES
from models.variables import local_replica
from optimizers.groups import variable_path

LOWER = "Lower optimizer.learning_rate"


def advice(step: int, loss: str) -> str:
    """Advice about a loss or a gradient that is not finite.

    Args:
        step: of the training, from 1; before the first, no weight moved.
        loss: `train.loss`'s name.
    """
    own = LOSSES.is_own(loss)
    if step > 1 and not own:
        return LOWER
    where = f"train.loss {loss!r} gave it for finite logits" if own else ""
    if step > 1:
        return (
            f"If {where}, mend the loss: a logarithm or root of 0, or an"
            " exponential of a large logit. Else lower optimizer.learning_rate"
        )
    return (
        "No weight has moved yet, so a lower rate does not help:"
        f" {where or 'the inputs of these rows are too large, or not numbers'}"
    )


def diverged(
    when: str,
    what: str,
    checkpoints: Checkpoints | None,
    advice: str = LOWER,
) -> FloatingPointError:
    """The error, with advice.

    Args:
        when: "at step 3", "by step 3".
        what: a sentence without its stop.
        checkpoints: those of the training, if it has some.
        advice: what to do.
    """
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
