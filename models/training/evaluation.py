"""Evaluation on held-out rows during training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.training.metrics import (
    auc,
    calibration,
    entropy,
    logloss_of_logits,
    sigmoid,
)


class Scores(NamedTuple):
    """Metrics of the rows looked at."""

    logloss: float = math.nan
    auc: float = math.nan
    calibration: float = math.nan


class Evaluation:
    """Metrics of `model`; compiled once.

    Args:
        model: maps inputs to logits [N].
        shift: added to each logit, for negatives that training did not see.
    """

    def __init__(self, model: Any, shift: float = 0.0) -> None:
        self._shift = shift
        self.constant = math.nan  # logloss of the base rate, once scored
        self._forward = tf.function(
            lambda inputs: model(inputs, training=False), reduce_retracing=True
        )

    def predict(self, data: Any) -> tuple[npt.NDArray[np.float64], ...]:
        """Labels and logits of all rows of `data`, in order."""
        labels, logits = [], []
        for inputs, label in data:
            labels.append(label.numpy())
            logits.append(self._forward(inputs).numpy())
        if not labels:
            return np.zeros(0), np.zeros(0)
        return (
            np.concatenate(labels).astype(np.float64),
            np.concatenate(logits).astype(np.float64) + self._shift,
        )

    def scores(self, data: Any) -> Scores:
        """Metrics of all rows of `data`."""
        labels, logits = self.predict(data)
        if len(labels):
            self.constant = float(entropy(np.asarray(labels.mean())))
        return Scores(
            logloss_of_logits(labels, logits),
            auc(labels, logits),
            calibration(labels, sigmoid(logits)),
        )
