"""AUC of each feature alone: one near 1 tells the label.

It is computed on a sample of `ROWS`, or all rows where they are no more. A row
has several scores by a feature, and the greatest AUC counts:

- the value itself, of a number, rising or falling (missing is the least);
- the click rate of its value, or of its 256-quantile for a number, as rows of
  the other half of the sample have it. A value that the other half lacks has
  the rate of all rows, so an id that is different in each row scores nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.training.metrics import auc_of

ROWS = 1 << 18
MIN_ROWS = 10  # positives, and negatives, below which an AUC is chance
_BINS = 256
_PRIOR = 1.0  # rows of the mean rate that a value's own rate is mixed with
_LISTED = 4  # values of a row that are told apart
Ints = npt.NDArray[np.int64]


class Sample:
    """Some rows of a split: a share of each batch, as columns of numbers.

    Args:
        label: name of the label's column.
        total: rows of the split, None if nobody knows.
        whole: whether `add` is given all rows, and keeps a share of each batch;
            else it keeps the first ones.
        size: how many are kept, about.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        whole: bool = True,
        size: int = ROWS,
    ) -> None:
        self.size = size
        self._label = label
        self._known = total
        self._share = min(1.0, size / total) if total and whole else 1.0
        self._left = size
        self._parts: dict[int, pa.RecordBatch] = {}
        self._lock = threading.Lock()
        self._total = 0

    def add(self, number: int, batch: pa.RecordBatch) -> None:
        """Takes the first rows of a batch; any thread may call.

        Args:
            number: of the batch; the report does not depend on their order.
            batch: of the split's rows.
        """
        with self._lock:
            self._total += batch.num_rows
            wanted = min(round(batch.num_rows * self._share), self._left)
            self._left -= wanted
        if wanted:
            # A slice would keep the whole batch.
            self._parts[number] = batch.take(pa.array(np.arange(wanted)))

    def report(self) -> dict[str, Any]:
        """{"rows", "total", "positives", "features": name -> {"auc", "by"}}.

        The AUC is null where there are too few rows of either label.
        """
        parts = [self._parts[number] for number in sorted(self._parts)]
        rows = sum(part.num_rows for part in parts)
        names = dict.fromkeys(n for part in parts for n in part.schema.names)
        # Codes are in the order of the values: missing, 0, 1.
        clicked = _Column(self._label, parts, rows).codes == 2
        positives = int(clicked.sum())
        enough = min(positives, rows - positives) >= MIN_ROWS
        return {
            "rows": rows,
            "total": self._known or self._total,
            "positives": positives,
            "features": {
                name: _best(_Column(name, parts, rows), clicked)
                if enough
                else {"auc": None, "by": "too few rows of one label"}
                for name in sorted(names)
                if name != self._label
            },
        }


class _Column:
    """The values of a feature, one a row.

    codes: a number for each value, 0 for missing; in the order of the values,
        where these are numbers. int64 [N].
    is_number: whether they are.
    """

    def __init__(
        self, name: str, parts: Sequence[pa.RecordBatch], rows: int
    ) -> None:
        self.codes = np.zeros(rows, np.int64)
        self.is_number = False
        first, there, arrays = 0, [], []
        for part in parts:
            index = part.schema.get_field_index(name)
            if index >= 0 and not pa.types.is_null(part.column(index).type):
                arrays.append(part.column(index))
                there.append(np.arange(first, first + part.num_rows))
            first += part.num_rows
        if not arrays:
            return
        array, at = pa.chunked_array(arrays), np.concatenate(there)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        starts = np.cumsum(lengths) - lengths
        values = pc.list_flatten(array).combine_chunks()
        kind = values.type
        self.is_number = bool(
            pa.types.is_integer(kind) or pa.types.is_floating(kind)
        )
        if self.is_number:
            numbers = values.to_numpy(zero_copy_only=False)
            distinct, codes = np.unique(numbers, return_inverse=True)
            codes = np.where(np.isnan(distinct[codes]), -1, codes)
        else:
            codes = values.dictionary_encode().indices.to_numpy()
        codes = codes.astype(np.int64) + 1
        self.codes[at[lengths > 0]] = codes[starts[lengths > 0]]
        # Rows of several values are told apart by the first few.
        for i in range(1, min(int(lengths.max(initial=0)), _LISTED)):
            more = np.zeros(rows, np.int64)
            more[at[lengths > i]] = codes[starts[lengths > i] + i]
            both = self.codes * (int(more.max()) + 1) + more
            self.codes = np.unique(both, return_inverse=True)[1]
            self.is_number = False


def _best(column: _Column, clicked: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The greater AUC of a feature's scores, and which of them has it."""
    codes = column.codes
    found = {"the click rate of each value": _by_rate(codes, clicked)}
    if column.is_number:
        size = int(codes.max(initial=0)) + 1
        positives = np.bincount(codes[clicked], minlength=size).astype(float)
        rows = np.bincount(codes, minlength=size).astype(float)
        rising = float(auc_of(rows - positives, positives))
        found["the value itself"] = max(rising, 1 - rising)
        rows[0] = 0  # missing is a bin of its own
        before = np.cumsum(rows) - rows
        bins = 1 + (before * _BINS / max(rows.sum(), 1.0)).astype(np.int64)
        bins[0] = 0
        found["the click rate of each quantile"] = _by_rate(
            bins[codes], clicked
        )
    by = max(found, key=lambda name: found[name])
    return {"auc": found[by], "by": by}


def _by_rate(codes: Ints, clicked: npt.NDArray[np.bool_]) -> float:
    """AUC of the click rate that each code has in the other half."""
    size = int(codes.max(initial=0)) + 1
    half = np.random.default_rng(0).integers(0, 2, len(codes))
    cells = half * size + codes
    rows = np.bincount(cells, minlength=2 * size).reshape(2, size) + 0.0
    positives = np.bincount(cells[clicked], minlength=2 * size)
    positives = positives.reshape(2, size)
    mean = clicked.mean()
    rates = (positives + mean * _PRIOR) / (rows + _PRIOR)
    scores, order = np.unique(rates[::-1].ravel(), return_inverse=True)
    below, above = (
        np.bincount(order, counts.ravel(), len(scores)).astype(np.float64)
        for counts in (rows - positives, positives)
    )
    return float(auc_of(below, above))
