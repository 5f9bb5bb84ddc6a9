"""Rows as read, and the one way to turn their columns into typed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]
_FLOAT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(nan|NaN|NAN)$"
_INT = r"^[+-]?\d{1,18}$"


@dataclass(frozen=True)
class Rejected:
    """One row that is not in the examples, and why."""

    path: str
    where: str  # "byte 1234" or "row 56"
    reason: str
    row: bytes


@dataclass
class Rows:
    """Some rows of a chunk, column by column.

    columns: raw column name -> array of `count` values of any Arrow type.
    ordinal: position of each row among all rows of its chunk, bad ones
        included (int64 [count]).
    locate: index among these rows -> (where, the row's bytes).
    rejected: rows that could not even be split into columns.
    """

    columns: Mapping[str, pa.Array]
    ordinal: npt.NDArray[np.int64]
    locate: Callable[[int], tuple[str, bytes]]
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many rows the columns hold."""
        return len(self.ordinal)


@dataclass
class Verdicts:
    """Which rows are good, and the first reason against each other one."""

    good: Mask
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def none(cls, count: int) -> Verdicts:
        """No row refused yet."""
        return cls(np.ones(count, np.bool_))

    def refuse(self, bad: Mask, reason: str) -> None:
        """Refuses the rows where `bad` and no reason is known yet."""
        for index in np.flatnonzero(bad):
            self.reasons.setdefault(int(index), reason)
        self.good &= ~bad


def typed(
    array: pa.Array,
    kind: str,
    column: str,
    null_values: tuple[str, ...],
    verdicts: Verdicts,
    separator: str | None = None,
) -> pa.Array:
    """`array` as float32, int64 or string; what does not fit is refused.

    Missing values become nulls: nulls, `null_values`, empty text, NaN.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return array.cast(_TARGETS[kind])
    if kind == "string":
        return _strings(array, column, null_values, verdicts, separator)
    if _is_text(array.type):
        array = _numbers(array, kind, column, null_values, verdicts)
    if kind == "float":
        return _floats(array, column, verdicts)
    return _ints(array, column, verdicts)


_TARGETS = {"float": pa.float32(), "int": pa.int64(), "string": pa.string()}


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _mask(array: pa.Array) -> Mask:
    """A boolean Arrow array as NumPy, null read as False."""
    filled = pc.fill_null(array, False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _text(
    array: pa.Array,
    column: str,
    null_values: tuple[str, ...],
    verdicts: Verdicts,
) -> pa.Array:
    """Valid UTF-8 with missing values as nulls."""
    try:
        text = array.cast(pa.string())
    except pa.ArrowInvalid:
        values = array.to_pylist()
        bad = np.array([not _is_utf8(value) for value in values])
        verdicts.refuse(bad, f"column {column}: not UTF-8")
        text = pa.array(
            [None if b else v for v, b in zip(values, bad, strict=True)],
            pa.binary(),
        ).cast(pa.string())
    missing = pc.is_in(text, value_set=pa.array(["", *null_values]))
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _strings(
    array: pa.Array,
    column: str,
    null_values: tuple[str, ...],
    verdicts: Verdicts,
    separator: str | None,
) -> pa.Array:
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        if separator is None:
            verdicts.refuse(
                _mask(pc.is_valid(array)),
                f"column {column}: a list, but the feature has no `list`",
            )
            return pa.nulls(len(array), pa.string())
        array = pc.binary_join(array.cast(pa.list_(pa.string())), separator)
    elif not _is_text(array.type):
        array = array.cast(pa.string())
    return _text(array, column, null_values, verdicts)


def _numbers(
    array: pa.Array,
    kind: str,
    column: str,
    null_values: tuple[str, ...],
    verdicts: Verdicts,
) -> pa.Array:
    """Text as float64 or int64."""
    text = _text(array, column, null_values, verdicts)
    target = pa.float64() if kind == "float" else pa.int64()
    try:
        return text.cast(target)
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text)
        pattern = _FLOAT if kind == "float" else _INT
        fits = pc.match_substring_regex(text, pattern)
        bad = _mask(pc.invert(fits))
        what = "a number" if kind == "float" else "an integer"
        verdicts.refuse(bad, f"column {column}: not {what}")
        text = pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), text)
        text = pc.replace_substring_regex(text, r"^\+", "")
        return text.cast(target)


def _floats(array: pa.Array, column: str, verdicts: Verdicts) -> pa.Array:
    wide = array.cast(pa.float64(), safe=False)
    narrow = wide.cast(pa.float32(), safe=False)
    bad = _mask(pc.is_inf(narrow))
    if bad.any():
        verdicts.refuse(bad, f"column {column}: not a finite number")
    return pc.if_else(pc.is_nan(narrow), pa.scalar(None, pa.float32()), narrow)


def _ints(array: pa.Array, column: str, verdicts: Verdicts) -> pa.Array:
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
        bad = _mask(pc.not_equal(pc.trunc(array), array)) | _mask(
            pc.greater(pc.abs(array), 2.0**53)
        )
        verdicts.refuse(bad, f"column {column}: not an integer")
        array = pc.if_else(pa.array(bad), pa.scalar(None, array.type), array)
    return array.cast(pa.int64())
