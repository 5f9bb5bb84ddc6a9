"""Count missing and unknown values in a sample of the requests."""

import logging
import queue
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serving.columns import Array

_logger = logging.getLogger(__name__)
_SECONDS = 1.0  # between two looks, whatever the load
_ROWS = 256  # that one look sees

Hashes = npt.NDArray[np.int64]


class Counts(Protocol):
    """Where a look is counted."""

    def seen(
        self, feature: str, rows: int, missing: int, unknown: int | None
    ) -> None:
        """Adds one look at a feature; unknown: None without a vocabulary."""


class Version(Protocol):
    """The part of a loaded version that is needed.

    vocabularies: feature -> the file with a value a line, list separator,
        separator of weights.
    """

    @property
    def vocabularies(
        self,
    ) -> Mapping[str, tuple[Path, str | None, str | None]]: ...


class Monitor:
    """Looks at some requests in a thread of its own.

    A request pays for a look at the clock; at most one a second is handed
    over, and none while the thread is busy.
    """

    def __init__(self, counts: Counts) -> None:
        """Starts the thread."""
        self._counts = counts
        self._next = 0.0
        self._queue: queue.Queue[Any] = queue.Queue(1)
        # Hashes of a vocabulary take 8 bytes a value, its texts ten times more.
        self._known: weakref.WeakKeyDictionary[Any, dict[str, Hashes]] = (
            weakref.WeakKeyDictionary()
        )
        threading.Thread(target=self._run, name="monitor", daemon=True).start()

    def offer(self, model: Version, columns: Mapping[str, Array]) -> None:
        """Takes the columns of `serving_default`, or leaves them."""
        now = time.monotonic()
        if now < self._next or self._queue.full():
            return
        self._next = now + _SECONDS
        self._queue.put((model, columns))

    def _run(self) -> None:
        while True:
            model, columns = self._queue.get()
            try:
                self.look(model, columns)
            except Exception:
                _logger.debug("a request cannot be looked at", exc_info=True)
            del model, columns  # it would keep the version

    def look(self, model: Version, columns: Mapping[str, Array]) -> None:
        """Counts what a request lacks, and what the model does not know."""
        if model not in self._known:
            self._known[model] = {
                name: hashes(path)
                for name, (path, *_) in model.vocabularies.items()
                if path.exists()  # its version may be gone
            }
        known = self._known[model]
        for name, whole in columns.items():
            column = whole[:_ROWS]
            missing = _missing(column)
            unknown = None
            if name in known:
                signs = model.vocabularies[name][1:]
                unknown = _unknown(column[~missing], known[name], *signs)
            self._counts.seen(name, len(column), int(missing.sum()), unknown)


def hashes(path: Path) -> Hashes:
    """Hashes of the lines of a file, sorted."""
    lines = path.read_bytes().split(b"\n")
    return np.sort(np.array([hash(line) for line in lines], np.int64))


def _missing(column: Array) -> npt.NDArray[np.bool_]:
    if column.dtype.kind == "f":
        return ~np.isfinite(column)
    if column.dtype.kind == "O":
        return np.array([not value for value in column], np.bool_)
    return np.asarray(column == -1)


def _unknown(
    values: Array,
    known: Hashes,
    separator: str | None,
    weights: str | None = None,
) -> int:
    """How many rows have a value that is not known."""
    rows = [_bytes(value) for value in values]
    parts = [
        [row]
        if separator is None
        else list(filter(None, row.split(separator.encode())))
        for row in rows
    ]
    if weights is not None:
        sign = weights.encode()
        parts = [[v.rpartition(sign)[0] or v for v in part] for part in parts]
    numbers = np.repeat(np.arange(len(rows)), [len(part) for part in parts])
    found = np.array([hash(v) for part in parts for v in part], np.int64)
    # Not np.isin, which sorts a large vocabulary each time.
    at = np.minimum(np.searchsorted(known, found), len(known) - 1)
    return len(np.unique(numbers[known[at] != found]))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
