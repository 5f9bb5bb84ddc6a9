"""Loss of a model of several labels, and what each of them is judged on.

With the first label y and another z, which is of it, the loss of the row is

    Σₖ wₖ / (w · sₖ) · mₖ · lₖ

where lₖ is the cross-entropy of label k, mₖ is 1 where it counts, sₖ the share
of such rows in training, wₖ its weight in the config and w the sum of these: in
the mean of all rows, the mean of the labels' losses. A label of the first
counts where y = 1, with its own probability p(b), the sigmoid of its logit.
Over the entire space (ESMM, arXiv 1804.07931) it counts in all rows, as z · y,
with the product p(a) p(b). A label that is not known counts nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.config.labels import CTR, Label, Output, outputs
from models.errors import InputError
from models.training.metrics import sigmoid

Floats = npt.NDArray[np.float64]


class LabelLosses:
    """Loss of each row, [N], of logits and labels, both [N, labels].

    Args:
        labels: in order.
        entire_space: whether a label of the first is learned with it.
        shares: of each label, of the weight of the rows where it counts.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        entire_space: bool,
        shares: Sequence[float],
    ) -> None:
        self._labels = labels
        self._entire_space = entire_space
        total = sum(label.weight for label in labels)
        self._factors = [
            label.weight / (total * share)
            for label, share in zip(labels, shares, strict=True)
        ]

    def __call__(
        self, logits: tf.Tensor, label: tf.Tensor, *_: Any
    ) -> tf.Tensor:
        """float32 [N]; weights and groups have no say."""
        first, a = label[:, 0], logits[:, 0]
        total = self._factors[0] * _cross_entropy(first, a)
        for number, one in enumerate(self._labels[1:], 1):
            known, b = label[:, number], logits[:, number]
            counts = known >= 0
            if one.of is None:
                loss = _cross_entropy(known, b)
            elif self._entire_space:
                loss = joint_loss(known * first, a, b)
            else:
                counts &= first > 0
                loss = _cross_entropy(known, b)
            loss = tf.where(counts, loss, tf.zeros_like(loss))
            total += self._factors[number] * loss
        return total


def joint_loss(label: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of p(a) p(b), stable for large logits, [N].

    1 - p(a) p(b) = (e⁻ᵃ + e⁻ᵇ + e⁻ᵃ⁻ᵇ) / ((1 + e⁻ᵃ) (1 + e⁻ᵇ))
    """
    either = tf.reduce_logsumexp(tf.stack([-a, -b, -a - b], 1), 1)
    both = tf.nn.softplus(-a) + tf.nn.softplus(-b)
    return both - (1 - label) * either


def _cross_entropy(label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.nn.sigmoid_cross_entropy_with_logits(label, logits)


class Judged(NamedTuple):
    """Rows that one output is judged on.

    rows: numbers of the rows where it counts. labels, probabilities: of these.
    """

    rows: npt.NDArray[np.int64]
    labels: Floats
    probabilities: Floats


def judged(output: Output, labels: Floats, logits: Floats) -> Judged:
    """Rows, labels and probabilities of one output.

    A label of the first counts where that is 1, both together in all rows.

    Args:
        output: see `models.config.labels.outputs`.
        labels: [N, labels], UNKNOWN where one is not known.
        logits: [N, labels].
    """
    rows, own = known(output, labels)
    probabilities = sigmoid(logits[:, output.label])
    if output.joint:
        probabilities = probabilities * sigmoid(logits[:, 0])
    return Judged(rows, own, probabilities[rows])


def known(
    output: Output, labels: Floats
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Numbers of the rows where an output counts, and its labels of these."""
    own = labels[:, output.label]
    counts = own >= 0
    if output.of:
        counts &= labels[:, 0] > 0.5
    if output.joint:
        own = own * labels[:, 0]
    rows = np.flatnonzero(counts)
    return rows, own[rows]


def probabilities(labels: Sequence[Label], logits: Floats) -> dict[str, Floats]:
    """Output -> its probabilities of all rows, [N].

    Args:
        labels: of the model; () where there is one.
        logits: [N, labels], or [N] of one.
    """
    if not labels:
        return {CTR: sigmoid(logits)}
    found = sigmoid(logits)
    return {
        one.name: found[:, one.label] * found[:, 0]
        if one.joint
        else found[:, one.label]
        for one in outputs(labels)
    }


def rows_of_labels(
    labels: Sequence[Label], values: Floats
) -> list[npt.NDArray[np.int64]]:
    """Numbers of the rows where each label counts on its own.

    Args:
        labels: in order.
        values: of them, [N, labels], UNKNOWN where one is not known.
    """
    return [
        known(output, values)[0]
        for output in outputs(labels)
        if not output.joint
    ]


class LabelSums(NamedTuple):
    """Sums of the weights of rows where a label is known.

    negative, positive: of rows where it counts, by the label; a label of the
        first counts where that is 1. without: of the rows with the first
        label 0.
    """

    negative: float = 0.0
    positive: float = 0.0
    without: float = 0.0

    @property
    def base_rate(self) -> float:
        """Share of positives where the label counts."""
        return self.positive / (self.positive + self.negative)


def label_sums(
    labels: Sequence[Label], values: Floats, weights: Floats
) -> npt.NDArray[np.float64]:
    """Fields of a `LabelSums` for each label, [labels, 3]; they add up.

    Args:
        labels: in order.
        values: of them, [N, labels].
        weights: of the rows, [N].
    """
    found = np.zeros((len(labels), 3))
    clicked = values[:, 0] > 0.5
    for number, one in enumerate(labels):
        own = values[:, number]
        known = own >= 0
        counts = known if one.of is None else known & clicked
        found[number] = (
            weights[counts & (own < 0.5)].sum(),
            weights[counts & (own > 0.5)].sum(),
            weights[known & ~clicked].sum(),
        )
    return found


def shares(
    labels: Sequence[Label],
    sums: Sequence[LabelSums],
    entire_space: bool,
    negative_weight: float,
) -> list[float]:
    """Share of the weight of the rows where each label counts in the loss.

    Args:
        labels: in order.
        sums: of each.
        entire_space: see `LabelLosses`.
        negative_weight: of a row without the first label.
    """
    found = []
    for label, one in zip(labels, sums, strict=True):
        clicked = one.negative + one.positive
        if label.of is None:
            clicked -= one.without
        without = negative_weight * one.without
        if label.of is not None and not entire_space:
            without = 0.0
        found.append(clicked + without)
    return [one / found[0] for one in found]


def check_learnable(label: Label, found: LabelSums, entire_space: bool) -> None:
    """Refuses a label of which the training rows say nothing.

    Raises:
        InputError: all its known rows are alike; or, over the entire space,
            it is known of no row without the first label.
    """
    field = f"data.labels.{label.name}"
    where = "" if label.of is None else f" with {label.of}"
    if not found.positive or not found.negative:
        known = "0" if found.negative else "1" if found.positive else "missing"
        raise InputError(
            f"{field}: {'it is' if known == 'missing' else 'all are'} {known}"
            f" in the training rows{where}; accepted: rows of both classes"
        )
    if label.of is not None and entire_space and not found.without:
        raise InputError(
            f"{field}: it is missing in all training rows without {label.of},"
            " and model.name: esmm learns it over all rows; accepted: 0 in rows"
            f" without {label.of}, missing only where it is not known yet"
        )
