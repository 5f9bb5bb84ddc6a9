"""Losses that compare the rows of a group.

A group below 0 is that of a row whose column is missing: such a row is
compared with none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class Segments(NamedTuple):
    """Rows in the order of their groups.

    order: row at each place, [N]. place: of each row, [N]. segment: number of
    the group at each place, from 0 on, [N].
    """

    order: tf.Tensor
    place: tf.Tensor
    segment: tf.Tensor


def segments(groups: tf.Tensor) -> Segments:
    """Orders rows by their groups; rows of a group keep their order."""
    order = tf.argsort(groups, stable=True)
    ordered = tf.gather(groups, order)
    first = (ordered[1:] != ordered[:-1]) | (ordered[1:] < 0)
    segment = tf.cumsum(tf.cast(tf.pad(first, [[1, 0]]), tf.int32))
    return Segments(order, tf.argsort(order), segment)


class Pairwise:
    """Log loss, and the logistic loss of pairs of a positive and a negative.

    A row i with the partners j of its group that have the other label adds

        sum_j w_j log(1 + exp(-(s_pos - s_neg))) / sum_j w_j

    so a group counts by its rows, as in GAUC. Burges et al., "Learning to
    rank using gradient descent" (ICML 2005). True logits minimize it: of the
    pairs, the positive is i with the odds of i over the odds of j.

    Args:
        logloss_share: of the log loss; the rest is of the pairs.
        partners: rows on either side, in the batch's order of a group, that a
            row is compared with.
    """

    def __init__(self, logloss_share: float = 0.5, partners: int = 64) -> None:
        self._share, self._partners = logloss_share, partners
        self.calibrated = logloss_share > 0

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor,
    ) -> tf.Tensor:
        """Loss of each row, [N]; see `models.contracts.loss`."""
        rows = segments(groups)
        count = tf.size(rows.order)
        s, y, w = (tf.gather(x, rows.order) for x in (logits, labels, weights))
        at = tf.range(count)[:, None]
        other = at + tf.range(1, self._partners + 1)[None]  # [N, partners]
        there = other < count
        other = tf.minimum(other, count - 1)
        apart = y[:, None] != tf.gather(y, other)
        same = rows.segment[:, None] == tf.gather(rows.segment, other)
        pair = tf.cast(there & same & apart, s.dtype)
        sign = 2.0 * y[:, None] - 1.0
        losses = pair * tf.nn.softplus(
            sign * (tf.gather(s, other) - s[:, None])
        )
        after, before = tf.gather(w, other), w[:, None]

        def of_both(values_after: tf.Tensor, values_before: tf.Tensor) -> Any:
            """Sums over the partners after a row, and those before it."""
            return tf.reduce_sum(
                values_after, 1
            ) + tf.math.unsorted_segment_sum(
                tf.reshape(values_before, [-1]),
                tf.reshape(other, [-1]),
                count,
            )

        compared = tf.math.divide_no_nan(
            of_both(losses * after, losses * before),
            of_both(pair * after, pair * before),
        )
        pointwise = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        return self._share * pointwise + (1.0 - self._share) * tf.gather(
            compared, rows.place
        )


class Jrc:
    """Joint ranking and calibration, by two logits f_0, f_1 of a row.

    Sheng et al., "Joint optimization of ranking and calibration with
    contextualized hybrid model", arXiv 2208.06164. With the label y of a row,
    and the rows j of its group,

        -a log softmax(f_0, f_1)_y - (1 - a) log(exp f_y / sum_j exp f_jy)

    whose minimum is p(y | row), and p(row | y) within the group, at once.

    Args:
        logloss_share: a.
    """

    def __init__(self, logloss_share: float = 0.5) -> None:
        self._share = logloss_share
        self.calibrated = logloss_share > 0

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor,
    ) -> tf.Tensor:
        """Loss of each row, [N], of logits [N, 2].

        A row counts in the sum by its share of the group's weight.
        """
        rows = segments(groups)
        count = tf.size(rows.order)
        f = tf.gather(logits, rows.order)  # [N, 2]
        weight = tf.gather(weights, rows.order)[:, None]

        def of_group(values: tf.Tensor) -> tf.Tensor:
            """Sums over the group of each place."""
            sums = tf.math.unsorted_segment_sum(values, rows.segment, count)
            return tf.gather(sums, rows.segment)

        top = tf.math.unsorted_segment_max(f, rows.segment, count)
        top = tf.stop_gradient(tf.gather(top, rows.segment))
        mean = of_group(weight) / of_group(tf.ones_like(weight))
        total = of_group(tf.exp(f - top) * weight / mean)
        sums = top + tf.math.log(total)
        ranked = tf.gather(sums - f, rows.place)  # [N, 2]
        ranked = tf.where(labels > 0, ranked[:, 1], ranked[:, 0])
        pointwise = tf.nn.sigmoid_cross_entropy_with_logits(
            labels, logits[:, 1] - logits[:, 0]
        )
        return self._share * pointwise + (1.0 - self._share) * ranked
