"""Evaluation on held-out rows during training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.config.labels import Label, outputs
from models.preprocessing.input_layout import without_groups
from models.training.group_metrics import gauc
from models.training.label_losses import judged
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
    gauc: float = math.nan

    def named(self) -> dict[str, float]:
        """Metric -> value; GAUC where rows have groups."""
        found = self._asdict()
        if math.isnan(self.gauc):
            del found["gauc"]
        return found

    @property
    def line(self) -> str:
        """Logloss and AUC, for the log of a training."""
        auc = f"{self.auc:.4f}"
        if math.isnan(self.auc) and math.isfinite(self.logloss):
            auc = "undefined: all eval rows have one label"
        if math.isfinite(self.gauc):
            auc += f", GAUC {self.gauc:.4f}"
        return f"logloss {self.logloss:.5f}, AUC {auc}"


class Predicted(NamedTuple):
    """Labels, logits, weights and groups of rows, in order.

    weights None: 1 each. groups None: there are none.
    """

    labels: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64] | None
    groups: npt.NDArray[np.int64] | None = None


class Evaluation:
    """Metrics of `model`; compiled once.

    Args:
        model: maps inputs to logits [N].
        shift: added to each logit, for negatives that training did not see;
            of several labels, to that of the first.
        labels: of the model, where there are several.
    """

    def __init__(
        self, model: Any, shift: float = 0.0, labels: Sequence[Label] = ()
    ) -> None:
        self._labels = labels
        self._shift: Any = shift
        if labels:
            self._shift = np.eye(1, len(labels)) * shift
        self.constant = math.nan  # logloss of the base rate, once scored
        self._forward = tf.function(
            lambda inputs: model(inputs, training=False), reduce_retracing=True
        )

    def predict(self, data: Any) -> tuple[npt.NDArray[np.float64], ...]:
        """Labels and logits of all rows of `data`, in order."""
        return self.predict_weighted(data)[:2]

    def predict_weighted(self, data: Any) -> Predicted:
        """Labels, logits and weights of all rows of `data`."""
        labels, logits, weights, groups = [], [], [], []
        for inputs, label, *weight in data:
            labels.append(label.numpy())
            inputs, group = without_groups(inputs)
            if group is not None:
                groups.append(group.numpy())
            logits.append(self._forward(inputs).numpy())
            weights += [one.numpy() for one in weight]
        if not labels:
            return Predicted(np.zeros(0), np.zeros(0), None)
        return Predicted(
            np.concatenate(labels).astype(np.float64),
            np.concatenate(logits).astype(np.float64) + self._shift,
            np.concatenate(weights).astype(np.float64) if weights else None,
            np.concatenate(groups) if groups else None,
        )

    def scores(self, data: Any, negatives: float = 1.0) -> Scores:
        """Metrics of all rows of `data`.

        Args:
            data: (inputs, label), in batches, and perhaps the weight.
            negatives: times the weight of each negative, for those that were
                left out.
        """
        if self._labels:
            return self._of_labels(data, negatives)
        labels, logits, weights, groups = self.predict_weighted(data)
        if len(labels):
            rate = np.average(labels, weights=weights)
            self.constant = float(entropy(np.asarray(rate)))
        if negatives != 1:
            left_out = np.where(labels > 0.5, 1.0, negatives)
            weights = left_out if weights is None else weights * left_out
        return Scores(
            logloss_of_logits(labels, logits, weights),
            auc(labels, logits, weights),
            calibration(labels, sigmoid(logits), weights),
            math.nan
            if groups is None
            else gauc(*_of_groups(groups, labels, logits, weights)),
        )

    def _of_labels(self, data: Any, negatives: float) -> Scores:
        """As `scores`, of several labels.

        The logloss is the mean over the labels by the weights of their losses,
        each of the rows where it counts; the rest is of the first label.
        """
        labels, logits, weights, _ = self.predict_weighted(data)
        if not len(labels):
            return Scores()
        every = np.ones(len(labels)) if weights is None else weights
        every = np.where(labels[:, 0] > 0.5, every, every * negatives)
        found, first, constant, logloss = 0.0, Scores(), 0.0, 0.0
        for output in outputs(self._labels):
            if output.joint:
                continue
            rows, own, probabilities = judged(output, labels, logits)
            if not len(rows):
                continue  # a part of the rows without a click
            share = self._labels[output.label].weight
            found += share
            rate = np.average(own, weights=every[rows])
            # No model can beat an entropy of 0: it tells nothing of this one.
            constant += share * (float(entropy(np.asarray(rate))) or math.nan)
            own_logits = logits[rows, output.label]
            logloss += share * logloss_of_logits(own, own_logits, every[rows])
            if not output.label:
                first = Scores(
                    math.nan,
                    auc(own, own_logits, every),
                    calibration(own, probabilities, every),
                )
        self.constant = constant / found
        return first._replace(logloss=logloss / found)


def _of_groups(groups: Any, *columns: Any) -> Iterator[Any]:
    """Groups and columns of the rows that have a group."""
    there = groups >= 0
    for column in (groups, *columns):
        yield None if column is None else column[there]
