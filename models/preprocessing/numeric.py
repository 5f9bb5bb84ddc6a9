"""Numbers to inputs of the model: clipped, scaled, or in buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft

from models.config.numeric import LOG_BUCKETS
from models.config.training import Features, NumericFeature
from models.preprocessing.logarithm import signed_log1p

LOGS = ("log1p", "log1p_zscore", "log1p_min_max")
Z_SCORES = ("zscore", "log1p_zscore")
MIN_MAX = ("min_max", "log1p_min_max")


class Raw(Protocol):
    """Columns of raw numbers."""

    @property
    def rows(self) -> Any: ...

    def numbers(self, name: str) -> tf.Tensor:
        """float32 [N]; not finite where missing."""


class Scales(Protocol):
    """Results of the analysis, float32 [D] each: see `Analysis`."""

    @property
    def mean(self) -> Any: ...
    @property
    def variance(self) -> Any: ...
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...
    @property
    def boundaries(self) -> Mapping[str, Any]: ...


def bucketed(features: Features) -> list[NumericFeature]:
    """Numbers that are embedded by their bucket."""
    return [f for f in features.numeric if f.ids]


def at_quantiles(features: Features) -> list[NumericFeature]:
    """Those whose buckets or pieces the analysis cuts."""
    return [f for f in features.numeric if f.cuts]


def scalars(features: Features) -> list[NumericFeature]:
    """Those that stay numbers."""
    return [f for f in features.numeric if not f.ids]


def ranged(features: Features) -> bool:
    """True if the lowest and highest numbers are wanted."""
    return any(f.transform in MIN_MAX for f in features.numeric)


def clipped(values: tf.Tensor, feature: NumericFeature) -> tf.Tensor:
    """`values` within `clip`; what is not finite stays so."""
    if feature.clip is None:
        return values
    low, high = _bounds([feature])
    inside = tf.clip_by_value(values, low[0], high[0])
    return tf.where(tf.math.is_finite(values), inside, values)


def unscaled(features: Sequence[NumericFeature], raw: Raw) -> tf.Tensor:
    """float32 [N, len(features)], all columns at once."""
    if not features:
        return tf.zeros([raw.rows, 0])
    return _unscaled(features, _stacked(features, raw))


def dense(
    features: Sequence[NumericFeature], raw: Raw, found: Scales
) -> tf.Tensor:
    """float32 [N, len(features) + pieces + indicators], scaled."""
    given = _stacked(features, raw)
    values = _unscaled(features, given)
    if _any(features, Z_SCORES):
        deviation = tf.sqrt(found.variance)
        deviation = tf.where(deviation > 0, deviation, tf.ones_like(deviation))
        scaled = (values - found.mean) / deviation
        values = tf.where(_mask(features, Z_SCORES), scaled, values)
    if _any(features, MIN_MAX):
        width = found.high - found.low
        width = tf.where(width > 0, width, tf.ones_like(width))
        scaled = tf.clip_by_value((values - found.low) / width, 0.0, 1.0)
        values = tf.where(_mask(features, MIN_MAX), scaled, values)
    parts = [
        pieces(given[:, at], f, found.boundaries[f.name])
        for at, f in enumerate(features)
        if f.pieces
    ]
    told = [at for at, f in enumerate(features) if f.indicator]
    if told:
        missing = ~tf.math.is_finite(tf.gather(given, told, axis=1))
        parts.append(tf.cast(missing, tf.float32))
    return tf.concat([values, *parts], 1) if parts else values


def pieces(
    given: tf.Tensor, feature: NumericFeature, boundaries: Any
) -> tf.Tensor:
    """Share of each piece that lies left of a number, float32 [N, pieces].

    Args:
        given: float32 [N], not finite where missing.
        feature: whose logarithm it is taken of, if its transform has one.
        boundaries: float32 [1, pieces + 1], rising.
    """
    present = tf.math.is_finite(given)
    values = tf.where(present, clipped(given, feature), tf.zeros_like(given))
    ends = tf.reshape(tf.cast(boundaries, tf.float32), [-1])
    if feature.transform in LOGS:
        values, ends = signed_log1p(values), signed_log1p(ends)
    values = values[:, None]
    left, width = ends[:-1], ends[1:] - ends[:-1]
    share = (values - left) / tf.where(width > 0, width, tf.ones_like(width))
    # A piece that one value fills is a step.
    step = tf.cast(values > left, tf.float32)
    share = tf.where(width > 0, tf.clip_by_value(share, 0.0, 1.0), step)
    return tf.where(present[:, None], share, tf.zeros_like(share))


def bucket_ids(
    features: Sequence[NumericFeature],
    raw: Raw,
    boundaries: Mapping[str, Any],
) -> dict[str, tf.Tensor]:
    """Feature -> int64 [N]: bucket from 1 on, 0 where missing.

    Args:
        features: those in buckets.
        raw: the raw numbers.
        boundaries: of those that are cut at quantiles.
    """
    if not features:
        return {}
    columns = [clipped(raw.numbers(f.name), f) for f in features]
    values = tf.stack(columns)  # [F, N]
    present = tf.math.is_finite(values)
    values = tf.where(present, values, tf.zeros_like(values))
    buckets = [
        tft.apply_buckets(
            column,
            log_boundaries()[None]
            if f.transform == "log_buckets"
            else boundaries[f.name],
        )
        for f, column in zip(
            features, tf.unstack(values, len(features)), strict=True
        )
    ]
    ids = 1 + tf.stack(buckets)
    ids = tf.where(present, ids, tf.zeros_like(ids))
    names = [f.name for f in features]
    return dict(zip(names, tf.unstack(ids, len(names)), strict=True))


def log_boundaries() -> npt.NDArray[np.float32]:
    """Where buckets of `log_buckets` begin, [LOG_BUCKETS - 1], rising.

    1, 2, and exp(√k) for k = 1, 2, ..., which is where floor(ln(x)²) rises:
    the buckets of the winners of Criteo's challenge (Juan et al., "3 Idiots'
    approach", 2014). Numbers below 0 have the same, mirrored.
    """
    count = LOG_BUCKETS // 2
    wide = np.r_[1.0, 2.0, np.exp(np.sqrt(np.arange(1, count - 1)))]
    # The first number of 32 bits that is not below it: so each number is in
    # the bucket that its own logarithm says.
    narrow = wide.astype(np.float32)
    up = np.nextafter(narrow, np.float32(np.inf))
    above = np.where(narrow < wide, up, narrow)
    below = np.nextafter(-above[::-1], np.float32(0))  # a bucket has its end
    return np.r_[below, above]


def _stacked(features: Sequence[NumericFeature], raw: Raw) -> tf.Tensor:
    """float32 [N, len(features)], as they are given."""
    return tf.stack([raw.numbers(f.name) for f in features], axis=1)


def _unscaled(
    features: Sequence[NumericFeature], values: tf.Tensor
) -> tf.Tensor:
    present = tf.math.is_finite(values)
    defaults = tf.constant([[f.default for f in features]], tf.float32)
    if any(f.clip for f in features):
        values = tf.clip_by_value(values, *_bounds(features))
    values = tf.where(present, values, defaults)
    if _any(features, LOGS):
        values = tf.where(_mask(features, LOGS), signed_log1p(values), values)
    return values


def _bounds(
    features: Sequence[NumericFeature],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Least and greatest of each, float32 [len(features)]."""
    ends = [f.clip or (None, None) for f in features]
    low = [-np.inf if low is None else low for low, _ in ends]
    high = [np.inf if high is None else high for _, high in ends]
    return np.array(low, np.float32), np.array(high, np.float32)


def _any(features: Sequence[NumericFeature], kinds: Sequence[str]) -> bool:
    return any(f.transform in kinds for f in features)


def _mask(
    features: Sequence[NumericFeature], kinds: Sequence[str]
) -> tf.Tensor:
    """Bool [1, len(features)]."""
    return tf.constant([[f.transform in kinds for f in features]])
