"""Calibration of logits: rising functions, in stock ops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.preprocessing.input_layout import IDS

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Platt:
    """Platt scaling: sigmoid(slope · logit + intercept).

    slope, intercept: of each function, [S].
    """

    slope: Floats
    intercept: Floats

    def __call__(self, logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        """Probabilities [N].

        Args:
            logits: float32 [N].
            which: number of the function of each, int64 [N]; or a scalar.
        """
        slope = tf.gather(tf.constant(self.slope), which)
        intercept = tf.gather(tf.constant(self.intercept), which)
        return tf.sigmoid(slope * logits + intercept)


@dataclass(frozen=True)
class Isotonic:
    """Linear interpolation between knots, constant beyond them.

    logits: of the knots, rising, [S, K]; infinite where there are fewer.
    probabilities: at these, [S, K].
    """

    logits: Floats
    probabilities: Floats

    def __call__(self, logits: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        """As `Platt`."""
        x, y = (
            tf.gather(tf.constant(table), which)
            for table in (self.logits, self.probabilities)
        )  # each [K] or [N, K]
        if x.shape.rank == 1:
            after = tf.searchsorted(x, logits, "right")
        else:
            after = tf.searchsorted(x, logits[:, None], "right")[:, 0]
        last = self.logits.shape[1] - 1
        at = tf.minimum(tf.maximum(after - 1, 0), last)
        after = tf.minimum(at + 1, last)
        dims = x.shape.rank - 1
        x0, x1, y0, y1 = (
            tf.gather(table, index, batch_dims=dims)
            for table, index in ((x, at), (x, after), (y, at), (y, after))
        )
        share = tf.math.divide_no_nan(logits - x0, x1 - x0)  # 0 / 0: no next
        found = y0 + tf.clip_by_value(share, 0.0, 1.0) * (y1 - y0)
        return tf.where(tf.math.is_nan(logits), logits, found)


@dataclass(frozen=True)
class Calibration:
    """A function of the logit for all rows, or one for each of some ids.

    curves: the functions; the last is of all other rows.
    column: in `ids`, of the feature that chooses; None: it is for all.
    ids: with a function of their own, rising, int64 [S - 1].
    """

    curves: Platt | Isotonic
    column: int | None = None
    ids: npt.NDArray[np.int64] | None = None

    def __call__(
        self, logits: tf.Tensor, inputs: Mapping[str, Any]
    ) -> tf.Tensor:
        """Probabilities [N] of logits [N], given the model's inputs."""
        if self.column is None or self.ids is None or not len(self.ids):
            return self.curves(logits, tf.constant(0, tf.int64))
        known = tf.constant(self.ids)
        id = inputs[IDS][:, self.column]
        at = tf.searchsorted(known, id, out_type=tf.int64)
        at = tf.minimum(at, len(self.ids) - 1)
        same = tf.equal(tf.gather(known, at), id)
        return self.curves(logits, tf.where(same, at, len(self.ids)))

    def arrays(self) -> list[npt.NDArray[Any]]:
        """All numbers, for the identity of an export."""
        found = list(vars(self.curves).values())
        return found if self.ids is None else [*found, self.ids]
