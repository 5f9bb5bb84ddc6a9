"""Losses of a row by itself."""

from __future__ import annotations

import tensorflow as tf


class LogLoss:
    """-log p of the row's label."""

    calibrated = True

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor | None,
    ) -> tf.Tensor:
        """Loss of each row, [N]; see `models.contracts.loss`."""
        return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)


class Focal:
    """-a (1 - p)^gamma log p, p of the row's label.

    Lin et al., "Focal loss for dense object detection", arXiv 1708.02002.

    Args:
        gamma: power of 1 - p.
        alpha: a of a positive; 1 - alpha of a negative. None: 1 of each.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None) -> None:
        self._gamma, self._alpha = gamma, alpha
        self.calibrated = gamma == 0 and alpha is None

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor | None,
    ) -> tf.Tensor:
        """Loss of each row, [N]; see `models.contracts.loss`."""
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        # log(1 - p), by which a power below 1 has a gradient near p = 1.
        other = tf.nn.softplus((2.0 * labels - 1.0) * logits)
        losses *= tf.exp(-self._gamma * other)
        if self._alpha is None:
            return losses
        return losses * tf.where(labels > 0, self._alpha, 1.0 - self._alpha)


class LabelSmoothing:
    """Log loss of the label (1 - s) y + s / 2.

    Szegedy et al., "Rethinking the inception architecture", arXiv 1512.00567.

    Args:
        smoothing: s.
    """

    def __init__(self, smoothing: float = 0.01) -> None:
        self._smoothing = smoothing
        self.calibrated = smoothing == 0

    def __call__(
        self,
        logits: tf.Tensor,
        labels: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor | None,
    ) -> tf.Tensor:
        """Loss of each row, [N]; see `models.contracts.loss`."""
        smooth = labels * (1.0 - self._smoothing) + self._smoothing / 2.0
        return tf.nn.sigmoid_cross_entropy_with_logits(smooth, logits)
