"""One feature's JSON values to one NumPy array, or an error that names it."""

import base64
import binascii
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import BadInputError, shown

Array = npt.NDArray[Any]

_JSON_TYPES = {
    bool: "boolean",
    bytes: "bytes",
    dict: "object",
    float: "number",
    int: "integer",
    list: "list",
    str: "string",
    type(None): "null",
}
_ACCEPTED: dict[str, tuple[str, frozenset[type]]] = {
    "f": ("a number or null", frozenset({float, int, type(None)})),
    "i": ("an integer or null", frozenset({int, type(None)})),
    "u": ("an integer", frozenset({int})),
    "b": ("true or false", frozenset({bool})),
    "O": (
        'a string, {"b64": "..."}, a number, true, false or null',
        frozenset({str, bytes, dict, type(None), bool, int, float}),
    ),
}
_FEW = 8  # values that are checked sooner one by one
_LARGEST = float(np.finfo(np.float32).max)


def supported(dtype: np.dtype[Any]) -> bool:
    """True if values of this dtype can be read from a request."""
    return dtype.kind in _ACCEPTED


def to_column(
    name: str,
    dtype: np.dtype[Any],
    values: Sequence[object],
    separator: str | None = None,
) -> Array:
    """Converts the values of one feature, one per row.

    `None` stands for a missing value: NaN for floats, -1 for signed
    integers, the empty string for strings. `{"b64": "..."}` is base64 for
    bytes. A boolean or a number is a text feature's value as the ingest
    writes it: 1 for true, 4 for 4.0. A list of one value is that value, so
    that clients may send shape [rows, 1].

    Args:
        name: the feature, for the error message.
        dtype: what the signature wants; strings are `object`.
        values: one scalar per row.
        separator: of a feature that is a list or a vector, which may come as
            a list too; a text has it between the values.

    Returns:
        An array of shape [len(values)] and of the given dtype.

    Raises:
        BadInputError: a value has the wrong type or does not fit the dtype.
    """
    if len(values) == 1 and (single := _single(dtype, values[0])) is not None:
        return single
    expected, accepted = _ACCEPTED[dtype.kind]
    # One pass in C over the types keeps the good case free of Python loops.
    received = set(map(type, values))
    if received == {list} and all(map(_is_single, values)):
        values = [value[0] for value in values]  # type: ignore[index]
        received = set(map(type, values))
    if separator is not None and list in received:
        values = [
            joined(name, row, value, separator)
            if isinstance(value, list)
            else value
            for row, value in enumerate(values)
        ]
        received = set(map(type, values))
    if not received <= accepted:
        row = next(i for i, v in enumerate(values) if type(v) not in accepted)
        raise BadInputError(_wrong(name, row, values[row], expected))
    if dtype.kind == "O":
        return _strings(name, values, received)
    if dtype.kind == "i" and type(None) in received:
        values = [-1 if value is None else value for value in values]
    try:
        if dtype.kind == "f":
            return _floats(values, dtype)
        return np.array(values, dtype=dtype)
    except OverflowError:
        row = next(i for i, v in enumerate(values) if _overflows(v, dtype))
        expected += f" within {dtype.name}"
        raise BadInputError(_wrong(name, row, values[row], expected)) from None


def _single(dtype: np.dtype[Any], value: Any) -> Array | None:
    """A value of the usual type as a column; None for others.

    Most requests have one row, and most of their cost is that of the checks.
    """
    if dtype.kind == "O" and isinstance(value, str):
        column = np.empty(1, dtype)
        column[0] = value
        return column
    if (
        type(value) in (float, int)
        and dtype == np.float32
        and -_LARGEST <= value <= _LARGEST
    ):
        return np.array((value,), dtype)
    return None


def joined(name: str, row: int, values: list[object], separator: str) -> bytes:
    """A list as a text.

    Raises:
        BadInputError: a value is a list too, or holds the separator.
    """
    texts = to_column(name, np.dtype(object), values)
    parts = [t.encode() if isinstance(t, str) else t for t in texts]
    if any(separator.encode() in part for part in parts):
        raise BadInputError(
            f"feature {name!r}, row {row}: expected values without the"
            f" separator {separator!r}; the signature 'examples' of predict"
            f" takes them. Received: {shown(values)}"
        )
    return separator.encode().join(parts)


def _floats(values: Sequence[Any], dtype: np.dtype[Any]) -> Array:
    if (
        len(values) <= _FEW
        and dtype.itemsize >= 4
        and all(v is None or -_LARGEST <= v <= _LARGEST for v in values)
    ):
        return np.array(values, dtype)
    # NumPy reads None as NaN, and would read a number too large for float32
    # as infinity.
    wide = np.array(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if np.any(np.isinf(narrow) & np.isfinite(wide)):
        raise OverflowError
    return narrow


def _overflows(value: object, dtype: np.dtype[Any]) -> bool:
    try:
        if dtype.kind == "f":
            _floats([value], dtype)
        else:
            np.array([value], dtype=dtype)
    except OverflowError:
        return True
    return False


def _is_single(value: object) -> bool:
    return isinstance(value, list) and len(value) == 1


def _strings(name: str, values: Sequence[object], received: set[type]) -> Array:
    if not received <= {str, bytes}:
        values = [
            _base64(name, row, value)
            if isinstance(value, dict)
            else number_text(value)
            for row, value in enumerate(values)
        ]
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def number_text(value: object) -> object:
    """The category that the ingest writes for a number, "" for none.

    Text is left to the model's graph, which has the rule for it.
    """
    if value is None:
        return ""
    if isinstance(value, int):  # a boolean too
        return str(int(value))
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return str(value)
    if value.is_integer():
        return str(int(value))
    return format(Decimal(repr(value)), "f")


def is_unicode(column: Array) -> bool:
    """True if every text of a column can be written as UTF-8."""
    try:
        for value in column:
            if isinstance(value, str):
                value.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_unicode(name: str, column: Array) -> BadInputError:
    """The error for a column of texts of which TensorFlow takes one not."""
    for row, value in enumerate(column):
        try:
            if isinstance(value, str):
                value.encode()
        except UnicodeEncodeError:
            return BadInputError(_wrong(name, row, value, "Unicode text"))
    return BadInputError(f"feature {name!r}: TensorFlow takes no such values")


def _base64(name: str, row: int, value: dict[str, object]) -> bytes:
    text = value.get("b64")
    if len(value) != 1 or not isinstance(text, str):
        raise BadInputError(_wrong(name, row, value, _ACCEPTED["O"][0]))
    try:
        # TF Serving takes base64 without its padding too.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInputError(
            _wrong(name, row, value, f"valid base64 ({error})")
        ) from None


def _wrong(name: str, row: int, value: object, expected: str) -> str:
    kind = _JSON_TYPES.get(type(value), type(value).__name__)
    return (
        f"feature {name!r}, row {row}: expected {expected}. "
        f"Received: {shown(value)} ({kind})"
    )
