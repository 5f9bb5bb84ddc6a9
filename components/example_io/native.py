"""The library of `build`: frames, examples, vocabularies, without Python.

It gives what NumPy does in `tfrecord` and `decode`, and TensorFlow in
Transform, which do without it where it is not built.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import weakref
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from components.example_io import build

log = logging.getLogger("lionctr.examples")
OFF = "LIONCTR_EXAMPLE_READER"  # 0: NumPy
_UNBUILT = f"it is not built for these sources: `{build.COMMAND}` does so"
_FUNCTIONS = ("frames", "layout", "count", "fill", "lines", "ids")
MOST = 4096  # features of an example; more go to a parser
_BYTES, _FLOAT, _INT64 = 0x0A, 0x12, 0x1A
_TYPES: dict[int, np.dtype[Any]] = {
    _BYTES: np.dtype(np.uint8),
    _FLOAT: np.dtype(np.float32),
    _INT64: np.dtype(np.int64),
}
Ints = npt.NDArray[np.int64]


class OtherLayoutError(Exception):
    """A record is not laid out as `tf_example.encode` does it."""


class Library(NamedTuple):
    """The loaded functions, or None and why."""

    functions: Any
    reason: str


@functools.cache
def load() -> Library:
    """Loads the library, once per process."""
    if os.environ.get(OFF) == "0":
        return Library(None, f"{OFF} is 0")
    path = build.library()
    try:
        functions = ctypes.CDLL(str(path))
    except OSError as error:
        reason = f"it does not load: {error}" if path.exists() else _UNBUILT
        log.info("NumPy reads examples, slower than the library: %s", reason)
        return Library(None, reason)
    for name in _FUNCTIONS:
        getattr(functions, f"lionctr_{name}").restype = ctypes.c_int64
    functions.lionctr_vocabulary.restype = ctypes.c_void_p
    functions.lionctr_forget.restype = None
    return Library(functions, path.name)


def usable() -> bool:
    """True if the functions of this module can be called."""
    return load().functions is not None


def frames(data: bytes, last: int) -> tuple[Ints, Ints, int, bool]:
    """First and last place of each whole record of `data[:last]`.

    Returns:
        With them the place behind the last record; or that of a record whose
        checksum is wrong, and True.
    """
    begins, ends = (np.empty(last // 16 + 1, np.int64) for _ in range(2))
    done = ctypes.c_int64()
    count = load().functions.lionctr_frames(
        data,
        ctypes.c_int64(last),
        _address(begins),
        _address(ends),
        ctypes.byref(done),
    )
    # Copies: most of what was reserved is not used.
    found = begins[: max(count, 0)].copy(), ends[: max(count, 0)].copy()
    return *found, done.value, count < 0


def decode(
    data: bytes, starts: Ints, ends: Ints, names: Collection[str] | None
) -> dict[str, pa.LargeListArray]:
    """See `decode.decode`."""
    library = load().functions
    starts, ends = (np.ascontiguousarray(x, np.int64) for x in (starts, ends))
    at, sizes = (np.empty(MOST, np.int64) for _ in range(2))
    kinds = np.empty(MOST, np.uint8)
    layout = _address(at), _address(sizes), _address(kinds)
    count = _checked(
        library.lionctr_layout(
            data,
            ctypes.c_int64(starts[0]),
            ctypes.c_int64(ends[0]),
            ctypes.c_int64(MOST),
            *layout,
        )
    )
    keys = [data[at[i] : at[i] + sizes[i]].decode() for i in range(count)]
    wanted = np.array([names is None or key in names for key in keys], "u1")
    rows = (
        data,
        _address(starts),
        _address(ends),
        ctypes.c_int64(len(starts)),
        ctypes.c_int64(count),
    )
    values, size = (np.zeros(count, np.int64) for _ in range(2))
    _checked(
        library.lionctr_count(
            *rows, *layout, _address(wanted), _address(values), _address(size)
        )
    )
    columns = {
        i: _Column(int(kinds[i]), len(starts), int(values[i]), int(size[i]))
        for i in np.flatnonzero(wanted).tolist()
    }
    places = (_Places * count)()
    for i, column in columns.items():
        places[i] = column.places()
    library.lionctr_fill(*rows, _address(kinds), _address(wanted), places)
    return {keys[i]: column.array() for i, column in columns.items()}


class _Places(ctypes.Structure):
    """`LionctrColumn`."""

    _fields_ = (
        ("lists", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("size", ctypes.c_int64),
    )


class _Column:
    """Room for the values of a feature."""

    def __init__(self, kind: int, rows: int, values: int, size: int) -> None:
        self._lists = np.empty(rows + 1, np.int64)
        self._offsets = np.empty(values + 1 if kind == _BYTES else 0, np.int64)
        count = size if kind == _BYTES else values
        self._values: npt.NDArray[Any] = np.empty(count, _TYPES[kind])

    def places(self) -> _Places:
        """For the library to fill."""
        filled = (self._lists, self._offsets, self._values)
        return _Places(*(array.ctypes.data for array in filled))

    def array(self) -> pa.LargeListArray:
        """Lists of what was filled in."""
        values = pa.array(self._values)
        if len(self._offsets):
            buffers = [None, *map(pa.py_buffer, (self._offsets, self._values))]
            count = len(self._offsets) - 1
            values = pa.Array.from_buffers(pa.large_binary(), count, buffers)
        return pa.LargeListArray.from_arrays(pa.array(self._lists), values)


class Vocabulary:
    """The lines of a vocabulary file, as ids.

    Args:
        text: of the file.
    """

    def __init__(self, text: bytes) -> None:
        functions = load().functions
        self._known = ctypes.c_void_p(
            functions.lionctr_vocabulary(text, ctypes.c_int64(len(text)))
        )
        self._end = weakref.finalize(
            self, functions.lionctr_forget, self._known
        )
        self.size = int(functions.lionctr_lines(self._known))

    def ids(self, values: pa.LargeBinaryArray) -> Ints:
        """1 + line of each value, 0 of an empty one, -1 of an unknown one."""
        _, offsets, text = values.buffers()
        found = np.empty(len(values), np.int64)
        load().functions.lionctr_ids(
            self._known,
            ctypes.c_void_p(offsets.address + 8 * values.offset),
            ctypes.c_void_p(text.address if text else None),
            ctypes.c_int64(len(values)),
            _address(found),
        )
        return found


def _address(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _checked(count: int) -> int:
    if count < 0:
        raise OtherLayoutError
    return count
