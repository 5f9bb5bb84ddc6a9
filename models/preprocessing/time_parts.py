"""Hour, weekday and the like of times, in the exported graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from models.config.time_features import Part, TimeFeatures
from models.preprocessing import time_zones
from models.preprocessing.time_text import Seconds, offset, seconds

_DAY = 86_400


def ids(text: tf.Tensor, config: TimeFeatures) -> dict[str, tf.Tensor]:
    """Name -> id of each row, int64 [N]; 0 without a time.

    Args:
        text: of the times, string [N]; "" where missing.
        config: the config section.
    """
    found = seconds(text, config.time)
    if config.now:
        missing = tf.equal(text, "")
        now = tf.cast(tf.floor(tf.timestamp()), tf.int64)
        found = Seconds(
            tf.where(missing, now, found.values), found.good | missing
        )
    local = _local(found.values, config.clock)
    days = local // _DAY
    good = tf.cast(found.good, tf.int64)
    return {
        name: good * (1 + _PARTS[part](local, days))
        for name, part in config.names.items()
    }


def _local(moments: tf.Tensor, zone: str) -> tf.Tensor:
    """Seconds of the wall clock in `zone`."""
    if zone == "UTC":
        return moments
    found = time_zones.changes(zone)
    return moments + offset(moments, found.moments, found.offsets)


def _hour(local: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return local // 3600 % 24


def _weekday(_: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return (days + 3) % 7  # 1970 began on a Thursday


def _hour_of_week(local: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return 24 * _weekday(local, days) + _hour(local, days)


def _is_weekend(local: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return tf.cast(_weekday(local, days) >= 5, tf.int64)


def _day_of_month(_: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return _date(days)[1] - 1


def _month(_: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return _date(days)[0] - 1


def _date(days: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Month and day of the month; see `time_text.days_before`."""
    days += 719_468
    of_era = days % 146_097
    year = of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096
    year //= 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153  # from March on
    day = of_year - (153 * month + 2) // 5 + 1
    return tf.where(month < 10, month + 3, month - 9), day


_PARTS: Mapping[Part, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "hour": _hour,
    "weekday": _weekday,
    "hour_of_week": _hour_of_week,
    "is_weekend": _is_weekend,
    "day_of_month": _day_of_month,
    "month": _month,
}
