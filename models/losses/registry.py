"""train.loss -> the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    """The loss of a config section.

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
