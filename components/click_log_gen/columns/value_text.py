"""One value, one text: how categories and keys are written, in any format.

`category` is the rule, for one value of Python; `texts` is the same rule for
Arrow columns.
"""

from __future__ import annotations

import datetime
import math
import re
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_WORDS = {"true": "1", "True": "1", "TRUE": "1"} | {
    "false": "0",
    "False": "0",
    "FALSE": "0",
}
_WHOLE = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
_EXACT = 2.0**63  # whole doubles below it are integers of 64 bits
_UUID_BYTES = 16
_HEX = np.frombuffer(bytes(range(256)).hex().encode(), np.uint8).reshape(-1, 2)
_DASHES = (8, 13, 18, 23)  # in the text of a UUID


def category(value: Any) -> str | None:
    """The text of a value; None where it is missing.

    - Booleans are 1 and 0.
    - Numbers are plain decimals: no exponent, no zeros at the end, no sign of
      zero; whole ones have no fraction. NaN is missing.
    - Times are UTC, `2024-01-31 23:59:59.25` (without a zone they are taken
      for UTC), days `2024-01-31`, UUIDs 8-4-4-4-12.
    - Text is itself, but `true`, `True`, `TRUE` are 1, those of false 0, and
      a whole number loses its fraction: `1.0` is 1. `1.50` stays: it may be a
      version. Empty text is missing.
    """
    if isinstance(value, str):
        whole = re.fullmatch(_WHOLE, value)
        text = whole[1] if whole else _WORDS.get(value, value)
        return "0" if whole and text == "-0" else text or None
    if value is None or isinstance(value, bool | int):
        return None if value is None else str(int(value))
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, datetime.datetime | datetime.time):
        return _clock(value)
    if isinstance(value, datetime.date | uuid.UUID):
        return str(value)
    raise TypeError(f"received {type(value).__name__}, which has no text")


def _number(value: float | Decimal) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return str(float(value))
    whole = int(value)
    if whole == value:
        return str(whole)
    text = format(Decimal(repr(value)) if isinstance(value, float) else value)
    return format(Decimal(text), "f").rstrip("0")


def _clock(value: datetime.datetime | datetime.time) -> str:
    if isinstance(value, datetime.datetime) and value.tzinfo:
        value = value.astimezone(datetime.UTC)
    text = str(value.replace(tzinfo=None))
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_text(kind: pa.DataType) -> bool:
    """True if values of the type are bytes that should be UTF-8."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or (
            pa.types.is_fixed_size_binary(kind)
            and kind.byte_width != _UUID_BYTES
        )
    )


def plain(array: pa.Array) -> pa.Array:
    """`array` without a dictionary or an extension type, UUIDs as text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_float16(array.type):  # Arrow computes with none
        return array.cast(pa.float32())
    if (
        pa.types.is_fixed_size_binary(array.type)
        and array.type.byte_width == _UUID_BYTES
    ):
        return _uuids(array)
    return array


def texts(array: pa.Array) -> pa.Array | None:
    """The `category` of each value of a `plain` array, which is no text.

    None where the type has no text: lists, structs, durations.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.string())
    if pa.types.is_integer(kind):
        return array.cast(pa.string())
    if pa.types.is_floating(kind):
        return _float_texts(array)
    if pa.types.is_decimal(kind):
        return _decimal_texts(array.cast(pa.string()))
    if pa.types.is_date(kind):
        return array.cast(pa.date32()).cast(pa.string())
    if pa.types.is_timestamp(kind):
        # By way of integers, which are UTC whatever the zone.
        array = array.cast(pa.int64()).cast(pa.timestamp(kind.unit))
        return _without_zeros(array.cast(pa.string()))
    if pa.types.is_time(kind):
        return _without_zeros(array.cast(pa.string()))
    return None


def canonical(text: pa.StringArray) -> pa.StringArray:
    """The `category` of each text; empty ones are left as they are.

    Where nothing is to be done, which is nearly always, it costs 2 ns a value.
    """
    if not len(text):
        return text
    ends = np.frombuffer(text.buffers()[1], np.int32)
    ends = ends[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    if data is None or not ends[-1]:
        return text
    bytes_ = np.frombuffer(data, np.uint8)
    sizes = np.diff(ends)
    changed = []
    short = np.flatnonzero((sizes == 4) | (sizes == 5))
    if len(short):
        last = bytes_[ends[short + 1] - 1]
        words = short[(last == ord("e")) | (last == ord("E"))]
        changed.append(words)
    if b"." in data.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes():
        some = np.flatnonzero(sizes > 2)
        changed.append(some[bytes_[ends[some + 1] - 1] == ord("0")])
    at = np.sort(np.concatenate(changed)) if changed else np.zeros(0, np.int64)
    return _replaced(text, at) if len(at) else text


def _replaced(text: pa.StringArray, at: npt.NDArray[np.int64]) -> pa.Array:
    """`text` with the category of those values that may have another."""
    some = text.take(pa.array(at))
    word = pc.index_in(some, value_set=pa.array(list(_WORDS)))
    found = pa.array(list(_WORDS.values())).take(word)
    whole = pc.replace_substring_regex(some, _WHOLE, r"\1")
    zero = pc.and_(pc.equal(whole, "-0"), pc.not_equal(some, "-0"))
    found = pc.coalesce(found, pc.if_else(zero, "0", whole))
    if found.equals(some):
        return text
    # Not replace_with_mask, which takes no text that is sliced.
    where = np.arange(len(text))
    where[at] = len(text) + np.arange(len(at))
    joined = pa.concat_arrays([text, found])
    return joined.take(pa.array(where))


def _float_texts(array: pa.Array) -> pa.Array:
    array = _nulled(array, pc.is_nan(array))
    whole = pc.and_(
        pc.equal(pc.trunc(array), array),
        pc.less(pc.abs(array.cast(pa.float64())), _EXACT),
    )
    integers = _nulled(array, pc.invert(whole)).cast(pa.int64())
    integers = integers.cast(pa.string())
    if integers.null_count == array.null_count:
        return integers
    others = _nulled(array, whole)
    return pc.coalesce(integers, _positional(others.cast(pa.string()), others))


def _positional(text: pa.Array, numbers: pa.Array) -> pa.Array:
    """`text` of floats, without exponents."""
    bad = pc.fill_null(pc.match_substring(text, "e"), False)
    if not pc.any(bad).as_py():
        return text
    shown = zip(text.to_pylist(), numbers.to_pylist(), strict=True)
    return pa.array(
        [
            None
            if short is None
            else short
            if "e" not in short
            else str(int(value))
            if value.is_integer()
            else format(Decimal(short), "f")
            for short, value in shown
        ],
        pa.string(),
    )


def _decimal_texts(text: pa.Array) -> pa.Array:
    if pc.any(pc.match_substring(text, "E")).as_py():
        found = [v and format(Decimal(v), "f") for v in text.to_pylist()]
        text = pa.array(found, pa.string())
    text = _without_zeros(text)
    return pc.if_else(pc.equal(text, "-0"), "0", text)


def _without_zeros(text: pa.Array) -> pa.Array:
    """`text` with no zeros at the end of a fraction."""
    point = pc.match_substring(text, ".")
    if not pc.any(point).as_py():
        return text
    short = pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")
    return pc.if_else(point, short, text)


def _uuids(array: pa.Array) -> pa.StringArray:
    """16 bytes each as 8-4-4-4-12 hexadecimal digits."""
    count, size = len(array), _UUID_BYTES
    data = np.frombuffer(array.buffers()[1], np.uint8)
    data = data[array.offset * size : (array.offset + count) * size]
    digits = _HEX[data].reshape(count, 2 * size)
    out = np.full((count, 2 * size + len(_DASHES)), ord("-"), np.uint8)
    out[:, np.delete(np.arange(out.shape[1]), _DASHES)] = digits
    offsets = np.arange(count + 1, dtype=np.int32) * out.shape[1]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(out)]
    text = pa.Array.from_buffers(pa.string(), count, buffers)
    return _nulled(text, array.is_null())


def _nulled(array: pa.Array, where: pa.Array) -> pa.Array:
    """`array` with nulls where the mask says so."""
    missing = pc.fill_null(where, False).to_numpy(zero_copy_only=False)
    if not missing.any():
        return array
    # Not if_else: with a null scalar it garbles sliced text (apache/arrow
    # issue 41479).
    return array.take(pa.array(np.arange(len(array)), mask=missing))
