"""Label, event time and split of each row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen.config import DataConfig, LabelRule
from components.click_log_gen.rows import Verdicts, typed

Times = npt.NDArray[np.int64]


def label(array: pa.Array, config: DataConfig, verdicts: Verdicts) -> pa.Array:
    """0 or 1 for each row (int64); a row without is refused."""
    rule = config.label
    nulls = config.impressions.null_values
    if isinstance(rule, LabelRule):
        if rule.equals is not None:
            text = typed(array, "string", rule.column, nulls, verdicts)
            hit = pc.equal(text, str(rule.equals))
        else:
            value = typed(array, "float", rule.column, nulls, verdicts)
            hit = (
                pc.greater_equal(value, pa.scalar(rule.at_least, pa.float32()))
                if rule.at_least is not None
                else pc.less_equal(value, pa.scalar(rule.at_most, pa.float32()))
            )
    else:
        if not pa.types.is_boolean(array.type):
            array = typed(array, "string", rule, nulls, verdicts)
            # As text, because a log may say true or 1.0 as well as 1.
            positive = pc.is_in(array, value_set=pa.array(_POSITIVE))
            negative = pc.is_in(array, value_set=pa.array(_NEGATIVE))
            hit = pc.if_else(
                pc.or_(positive, negative),
                positive,
                pa.scalar(None, pa.bool_()),
            )
            odd = pc.and_(pc.is_valid(array), pc.is_null(hit))
            verdicts.refuse(
                odd.to_numpy(zero_copy_only=False),
                f"column {rule}: the label is neither 0 nor 1",
            )
        else:
            hit = array
    missing = pc.is_null(hit).to_numpy(zero_copy_only=False)
    verdicts.refuse(missing, f"column {config.label_column}: no label")
    return pc.fill_null(hit, False).cast(pa.int64())


_POSITIVE = ["1", "1.0", "true", "True", "TRUE"]
_NEGATIVE = ["0", "0.0", "false", "False", "FALSE"]


def event_time(
    array: pa.Array,
    column: str,
    null_values: tuple[str, ...],
    verdicts: Verdicts,
) -> Times:
    """Microseconds since 1970 of each row; a row without is refused.

    Accepts ISO 8601 (no zone means UTC) and seconds, milliseconds or
    microseconds since 1970, told apart by their size.
    """
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        parsed = array.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif _is_numeric(array.type):
        parsed = _epoch(array.cast(pa.float64(), safe=False))
    else:
        text = typed(array, "string", column, null_values, verdicts)
        parsed = _iso(text)
        if parsed is None:
            numeric = pc.match_substring_regex(text, r"^\d+(\.\d+)?$")
            numbers = pc.if_else(numeric, text, pa.scalar(None, pa.string()))
            parsed = _epoch(numbers.cast(pa.float64()))
            rest = pc.if_else(numeric, pa.scalar(None, pa.string()), text)
            if rest.null_count < len(rest):
                parsed = pc.coalesce(parsed, _iso_each(rest))
    missing = pc.is_null(parsed).to_numpy(zero_copy_only=False)
    verdicts.refuse(
        missing,
        f"column {column}: not a time (ISO 8601, or seconds since 1970)",
    )
    times: Times = pc.fill_null(parsed, 0).to_numpy(zero_copy_only=False)
    return times


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _iso(text: pa.Array) -> pa.Array | None:
    """All values as ISO 8601 with one habit about zones, or None."""
    for target in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
        try:
            return text.cast(target).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return None


def _iso_each(text: pa.Array) -> pa.Array:
    """Value by value: for blocks that mix habits or hold bad ones."""
    results = []
    for value in text:
        parsed = _iso(pa.array([value.as_py()], pa.string()))
        results.append(None if parsed is None else parsed[0].as_py())
    return pa.array(results, pa.int64())


def _epoch(seconds: pa.Array) -> pa.Array:
    """Seconds, milliseconds or microseconds, by size, as microseconds."""
    values = np.asarray(
        pc.fill_null(seconds, np.nan).to_numpy(zero_copy_only=False),
        dtype=np.float64,
    )
    size = np.abs(values)
    factor = np.where(size >= 1e14, 1.0, np.where(size >= 1e11, 1e3, 1e6))
    bad = ~np.isfinite(values) | (size >= 9e18 / 1e6)
    micros = np.where(bad, 0, values * factor)
    bad |= np.abs(micros) >= 9e18
    micros = np.where(bad, 0, micros)
    return pa.array(micros.astype(np.int64), mask=bad)


def by_hash(keys: list[bytes], share: float) -> npt.NDArray[np.bool_]:
    """Which rows go to eval: a stable hash of the key, equal on any host."""
    import tensorflow as tf

    buckets = tf.strings.to_hash_bucket_fast(keys, 1 << 24).numpy()
    return np.asarray(buckets < share * (1 << 24), dtype=np.bool_)
