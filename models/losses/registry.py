"""train.loss -> the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.config.losses import LOSSES, LossConfig
from models.errors import InputError


@dataclass(frozen=True)
class Loss:
    """A loss, and what it needs and promises.

    of_rows: (logits, labels, weights, groups) -> loss of each row.
    calibrated: whether true probabilities minimize it.
    grouped: whether it compares rows of a group.
    logits: that it needs of a row.
    """

    name: str
    of_rows: Callable[..., Any]
    calibrated: bool
    grouped: bool
    logits: int = 1


def build_loss(config: LossConfig) -> Loss:
    """The loss of a config section, for a training.

    Raises:
        InputError: the user's own loss cannot be had or made, raises, or
            returns no loss of each row.
    """
    loss = load_loss(config)
    if LOSSES.is_own(config.name):
        _check_rows(loss)
    return loss


def load_loss(config: LossConfig) -> Loss:
    """The loss of a config section, which has not been called yet.

    Raises:
        InputError: the user's own loss cannot be had or made.
    """
    try:
        made = LOSSES.make(config.name, arguments=config.options)
    except ValueError as error:
        raise InputError(str(error)) from error
    if not callable(made):
        raise InputError(
            f"train.loss: received {config.name!r}, a {type(made).__name__}"
            f" that cannot be called. Accepted: {LOSSES.wanted}"
        )
    return Loss(
        config.name,
        made,
        bool(getattr(made, "calibrated", False)),
        config.grouped,
        config.logits,
    )


def _check_rows(loss: Loss) -> None:
    """Refuses a loss that is not one number a row.

    Another shape would be broadcast: the training would run, on another loss.
    """
    logits = tf.constant([-1.0, 0.5, 2.0, 0.0])
    labels = tf.constant([0.0, 1.0, 1.0, 0.0])
    groups = tf.constant([0, 0, -1, 0], tf.int64) if loss.grouped else None
    field = f"train.loss: {loss.name!r}"
    try:
        found = loss.of_rows(logits, labels, tf.ones(4), groups)
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"{field} raised {error!r}") from error
    shape = getattr(found, "shape", None)
    if shape != (4,):
        got = type(found).__name__ if shape is None else f"shape {list(shape)}"
        raise InputError(
            f"{field} returned {got} for 4 rows; accepted: shape [4], the loss"
            " of each row"
        )
