"""The learning rate over a run: a linear warmup, then a decay."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lion_ctr")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Warms up linearly to `learning_rate`, then decays to a fraction of it.

    The rate at step s (from 0) is `learning_rate` times

        (s + 1) / warmup                          while s < warmup,
        1                                         "constant",
        1 - (1 - final)·p                         "linear",
        final + (1 - final)·(1 + cos(π·p)) / 2    "cosine",
        final^p                                   "exponential",

    with p = (s - warmup) / (total_steps - warmup), at most 1. No step of the
    warmup has rate 0.

    Args:
        learning_rate: the peak, > 0.
        total_steps: steps of the run, > 0.
        decay: "constant", "linear", "cosine" or "exponential".
        warmup: steps of warmup, in [0, total_steps).
        final: fraction of the peak that the decay ends at, in [0, 1];
            "exponential" needs > 0.
        first_step: steps that the optimizer had made before the run.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        decay: str = "constant",
        warmup: int = 0,
        final: float = 0.0,
        first_step: int = 0,
    ) -> None:
        if decay not in ("constant", "linear", "cosine", "exponential"):
            raise ValueError(
                "`decay` must be one of 'constant', 'linear', 'cosine', "
                f"'exponential'. Received: {decay!r}"
            )
        if not 0 <= warmup < total_steps:
            raise ValueError(
                f"`warmup` must be in [0, total_steps), that is below "
                f"{total_steps}. Received: {warmup!r}"
            )
        if decay == "exponential" and not final > 0:
            raise ValueError(
                "`final` must be > 0 for an exponential decay. "
                f"Received: {final!r}"
            )
        self.first_step = first_step
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.decay = decay
        self.warmup = warmup
        self.final = final

    def __call__(self, step: Any) -> Any:
        """Returns the rate of step `step`, a scalar tensor of floatx."""
        dtype = keras.config.floatx()
        step = ops.maximum(ops.cast(step - self.first_step, dtype), 0.0)
        length = self.total_steps - self.warmup
        progress = ops.clip((step - self.warmup) / length, 0.0, 1.0)
        if self.decay == "constant":
            factor = ops.ones_like(progress)
        elif self.decay == "linear":
            factor = 1.0 - (1.0 - self.final) * progress
        elif self.decay == "cosine":
            wave = 0.5 * (1.0 + ops.cos(math.pi * progress))
            factor = self.final + (1.0 - self.final) * wave
        else:
            factor = ops.exp(math.log(self.final) * progress)
        rising = (step + 1.0) / max(self.warmup, 1)
        factor = ops.where(step < self.warmup, rising, factor)
        return ops.cast(self.learning_rate, dtype) * factor

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, so that `from_config` makes the same."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "warmup": self.warmup,
            "final": self.final,
            "first_step": self.first_step,
        }
