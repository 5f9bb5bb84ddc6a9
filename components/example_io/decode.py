"""Serialized tf.Examples to Arrow columns, all rows at once.

The inverse of `tf_example.encode`. It reads what lies where `encode` writes it,
several times faster than a parser of any protobuf, and says so where a row is
laid out in another way. The work is done by the library of `native`, or by
NumPy where it is not built.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.example_io import native
from components.example_io.native import OtherLayoutError
from components.example_io.tf_example import TIME_TAG
from components.example_io.tfrecord import Records
from models.errors import InputError

_BYTES, _FLOAT, _INT64 = 0x0A, 0x12, 0x1A
_FIRST, _SECOND = 0x0A, 0x12
_LENGTH_BYTES = 4  # of a varint that says how many bytes follow
_TIMED = len(TIME_TAG) + 8
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def decode(
    records: Records, names: Iterable[str] | None = None
) -> dict[str, pa.LargeListArray]:
    """Feature -> a list of binary, float32 or int64 for each row.

    Args:
        records: at least one.
        names: features that are wanted; None: all.

    Raises:
        OtherLayoutError: the rows do not have the same features in the same
            order, or one is not written as `encode` writes it.
    """
    wanted = None if names is None else set(names)
    by = native.decode if native.usable() else _decode
    try:
        return by(records.data, records.starts, records.ends, wanted)
    except UnicodeDecodeError as error:  # a feature's name
        raise OtherLayoutError from error


def times_of(records: Records) -> Ints:
    """Seconds since 1970 of each row, of `tf_example.timed`.

    Raises:
        InputError: a row carries none.
    """
    data = np.frombuffer(records.data, np.uint8)
    long = records.ends - records.starts >= _TIMED
    tails = data[(records.ends - _TIMED)[:, None] + np.arange(_TIMED)]
    tag = np.frombuffer(TIME_TAG, np.uint8)
    if not (long & (tails[:, : len(tag)] == tag).all(axis=1)).all():
        raise InputError(
            "features.admission counts by day, and examples carry no time;"
            " accepted: those of ClickLogGen with data.time"
        )
    found: Ints = tails[:, len(tag) :].copy().view("<i8")[:, 0]
    return found


def _decode(
    data: bytes, starts: Ints, ends: Ints, wanted: Collection[str] | None
) -> dict[str, pa.LargeListArray]:
    view = _View(data)
    at = view.expect(starts, bytes([_FIRST]))
    size, at = view.length(at)
    end = at + size
    features = []
    while at[0] < end[0]:
        feature = view.feature(at)
        features.append(feature)
        at = feature.end
    left = ends - end
    _check((at == end) & ((left == 0) | (left == _TIMED)))
    return {
        feature.name: _column(view, feature)
        for feature in features
        if wanted is None or feature.name in wanted
    }


class _Feature(NamedTuple):
    """A feature of all rows.

    name: its key in the map. tag: its kind. begin, end: where its values are,
    int64 [N]; equal in a row without one. lone: a row has one field there.
    """

    name: str
    tag: int
    begin: Ints
    end: Ints
    lone: bool


class _View:
    """Eight bytes from any place, of many places at once."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._words = np.ndarray(
            (max(0, len(data) - 7),), np.dtype("<u8"), data, strides=(1,)
        )

    def words(self, at: Ints) -> Words:
        """The bytes from `at` on; the first is the lowest."""
        _check(at < len(self._words))
        found: Words = self._words[at]
        return found

    def expect(self, at: Ints, data: bytes) -> Ints:
        """The places behind `data`, which must be there."""
        for first in range(0, len(data), 8):
            word, mask = _word(data[first : first + 8])
            _check(self.words(at + first) & mask == word)
        return at + len(data)

    def length(self, at: Ints) -> tuple[Ints, Ints]:
        """Varints, and the places behind them."""
        words = self.words(at)
        value = (words & np.uint64(0x7F)).astype(np.int64)
        more = words & np.uint64(0x80) != 0
        at = at + 1
        for number in range(1, _LENGTH_BYTES):
            if not more.any():
                break
            byte = words >> np.uint64(8 * number)
            digit = (byte & np.uint64(0x7F)).astype(np.int64)
            value += np.where(more, digit << 7 * number, 0)
            at += more
            more &= byte & np.uint64(0x80) != 0
        _check(~more)
        return value, at

    def feature(self, at: Ints) -> _Feature:
        """The feature whose entry of the map is at these places."""
        name, tag = self._first(int(at[0]))
        key = bytes([_FIRST, len(name)]) + name
        if len(name) < 0x80:
            found = self._short(at, key, tag)
            if found is not None:
                return _Feature(name.decode(), tag, *found)
        size, at = self.length(self.expect(at, bytes([_FIRST])))
        end = at + size
        size, at = self.length(self.expect(at, bytes([_FIRST])))
        _check(size == len(name))
        at = self.expect(at, name)
        for expected in (_SECOND, tag):
            size, at = self.length(self.expect(at, bytes([expected])))
            _check(at + size == end)
        return _Feature(name.decode(), tag, at, end, False)

    def _short(
        self, at: Ints, key: bytes, tag: int
    ) -> tuple[Ints, Ints, bool] | None:
        """The same where all lengths take a byte; else None."""
        words = self.words(at)
        size = words >> np.uint64(8) & np.uint64(0xFF)
        if size.max() >= 0x80:
            return None
        word, mask = _word(bytes([_FIRST, 0]) + key[:6])
        _check(words & (mask ^ np.uint64(0xFF00)) == word)
        if len(key) > 6:
            self.expect(at + 8, key[6:])
        inner = size - np.uint64(len(key) + 2)
        # Second field, its length, the kind, the length of its values.
        expected = np.uint64(_SECOND | tag << 16) + (inner << np.uint64(8))
        expected += (inner - np.uint64(2)) << np.uint64(24)
        begin = at + (2 + len(key) + 4)
        words = self.words(begin - 4)
        _check(words & np.uint64(0xFFFFFFFF) == expected)
        end = at + 2 + size.astype(np.int64)
        _check(begin <= end)
        alone = np.uint64(_FIRST) + ((inner - np.uint64(4)) << np.uint64(8))
        rest = words >> np.uint64(32) & np.uint64(0xFFFF)
        return begin, end, bool(((rest == alone) | (begin == end)).all())

    def _first(self, at: int) -> tuple[bytes, int]:
        """Name and kind of the feature at a place."""
        at, _ = self._field(at, _FIRST)
        at, end = self._field(at, _FIRST)
        name = self.data[at:end]
        at, _ = self._field(end, _SECOND)
        return name, self.data[at]

    def _field(self, at: int, tag: int) -> tuple[int, int]:
        """First and last place in the field at a place."""
        size, behind = self.length(self.expect(np.array([at]), bytes([tag])))
        end = int(behind[0] + size[0])
        if end >= len(self.data):
            raise OtherLayoutError
        return int(behind[0]), end


def _column(view: _View, feature: _Feature) -> pa.LargeListArray:
    """A list for each row, of one field of the protobuf or of several."""
    rows = np.flatnonzero(feature.begin < feature.end)
    begin, end = feature.begin[rows], feature.end[rows]
    if feature.lone:
        begin = begin + 2
    elif feature.tag == _BYTES:
        rows, begin, end = _fields(view, rows, begin, end)
    else:
        size, begin = view.length(view.expect(begin, bytes([_FIRST])))
        _check(begin + size == end)
    parts = _slices(view.data, begin, end)
    counts = np.bincount(rows, minlength=len(feature.begin))
    if feature.tag == _BYTES:
        return _lists(counts, parts)
    ends = np.frombuffer(parts.buffers()[1], np.int64)[: len(parts) + 1]
    packed = np.frombuffer(parts.buffers()[2] or b"", np.uint8)[: ends[-1]]
    if feature.tag == _FLOAT:
        _check(ends % 4 == 0)
        counts[rows] = np.diff(ends) // 4
        return _lists(counts, pa.array(packed.view("<f4")))
    if feature.tag != _INT64:
        raise OtherLayoutError
    numbers, last = _varints(packed)
    counts[rows] = np.diff(np.searchsorted(last, ends))
    _check(np.isin(ends[1:], last + 1) | (np.diff(ends) == 0))
    return _lists(counts, pa.array(numbers))


def _fields(
    view: _View, rows: Ints, begin: Ints, end: Ints
) -> tuple[Ints, Ints, Ints]:
    """Row, first and last place of each value of bytes, in order."""
    found = []
    while len(rows):
        size, begin = view.length(view.expect(begin, bytes([_FIRST])))
        last = begin + size
        _check(last <= end)
        found.append((rows, begin, last))
        more = last < end
        rows, begin, end = rows[more], last[more], end[more]
    if not found:
        return rows, begin, end
    of, first, behind = (np.concatenate(p) for p in zip(*found, strict=True))
    order = np.argsort(first, kind="stable")
    return of[order], first[order], behind[order]


def _slices(data: bytes, begin: Ints, end: Ints) -> pa.LargeBinaryArray:
    """Bytes of `data`, copied one behind another."""
    if not len(begin):
        return pa.array([], pa.large_binary())
    cuts = np.empty(2 * len(begin) + 1, np.int64)
    cuts[:-1:2], cuts[1::2], cuts[-1] = begin, end, end[-1]
    buffers = [None, pa.py_buffer(cuts), pa.py_buffer(data)]
    every = pa.Array.from_buffers(pa.large_binary(), len(cuts) - 1, buffers)
    return every.take(pa.array(np.arange(0, len(cuts) - 1, 2)))


def _varints(packed: npt.NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Numbers, and the place of the last byte of each."""
    last = np.flatnonzero(packed < 0x80)
    first = np.append(0, last[:-1] + 1) if len(last) else last
    size = last - first + 1
    _check(size <= 10)
    numbers = np.zeros(len(last), np.uint64)
    for number in range(int(size.max(initial=0))):
        some = size > number
        byte = packed[np.where(some, first + number, last)]
        digit = (byte & np.uint8(0x7F)).astype(np.uint64)
        numbers |= np.where(some, digit << np.uint64(7 * number), np.uint64(0))
    return numbers.view(np.int64), last


def _lists(counts: Ints, values: pa.Array) -> pa.LargeListArray:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def _word(data: bytes) -> tuple[np.uint64, np.uint64]:
    """Up to eight bytes as a number, and which of its bits they are."""
    mask = (1 << 8 * len(data)) - 1
    return np.uint64(int.from_bytes(data, "little")), np.uint64(mask)


def _check(holds: npt.NDArray[np.bool_]) -> None:
    if not holds.all():
        raise OtherLayoutError
