"""All vocabularies and the label's counts in one pass over Arrow arrays.

A vocabulary is what `tft.vocabulary` writes for each column, line for line:
commonest first, ties in reverse order of the bytes, no empty values, none
with a line break. TFT itself makes a pass for each column, element by
element.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_transform.beam as tft_beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from models.config.admission import Admission

# TFT's entry where nothing is left: a table must not be empty.
EMPTY_VOCABULARY = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"
_MERGE_AT = 64  # tables of counts kept before they are merged

Batch = tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary to compute."""

    file_name: str
    min_count: int
    max_size: int
    admission: Admission | None = None


class Vocabularies(tft_beam.experimental.PTransformAnalyzer):
    """Batches of one byte-string array a column -> one file a column.

    The first array is the label, int64 [N]; the first file holds how often it
    is 0, then how often it is 1.
    """

    def __init__(
        self, label_counts: str, vocabularies: Sequence[Vocabulary]
    ) -> None:
        super().__init__()
        self._vocabularies = (Vocabulary(label_counts, 1, 2), *vocabularies)

    def expand(
        self, batches: beam.PCollection[Batch]
    ) -> tuple[beam.PCollection[npt.NDArray[np.str_]], ...]:
        """Counts, prunes, sorts and writes."""
        tags = [str(i) for i in range(len(self._vocabularies))]
        written = (
            batches
            | "Count" >> beam.ParDo(_Count(len(tags)))
            | "Merge" >> beam.CombinePerKey(merge)
            | "WriteEach"
            >> beam.Map(_write, self._vocabularies, self.base_temp_dir)
            | "Together" >> beam.combiners.ToList()
            | "Give"
            >> beam.FlatMap(
                lambda files: [
                    beam.pvalue.TaggedOutput(str(index), np.array(path))
                    for index, path in files
                ]
            ).with_outputs(*tags)
        )
        return tuple(written[tag] for tag in tags)


class _Count(beam.DoFn):
    """Counts values of all columns, merged within a bundle."""

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def start_bundle(self) -> None:
        self._tables: list[list[pa.Table]] = [[] for _ in range(self._columns)]

    def process(self, batch: Batch) -> None:
        for tables, values in zip(self._tables, batch, strict=True):
            tables.append(count(values.reshape(-1)))
            if len(tables) >= _MERGE_AT:
                tables[:] = [merge(tables)]

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for index, tables in enumerate(self._tables):
            yield WindowedValue(
                (index, merge(tables)), MIN_TIMESTAMP, [GlobalWindow()]
            )


def count(values: npt.NDArray[Any] | pa.Array) -> pa.Table:
    """How often each value occurs; numbers of NumPy are labels."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return _counted(values)
    if values.dtype != np.object_:  # the label
        values = np.where(values > 0, b"1", b"0").astype(np.object_)
    return _counted(pa.array(values, pa.binary()))


def _counted(values: pa.Array) -> pa.Table:
    counted = values.value_counts()
    return pa.table(
        {"value": counted.field("values"), "count": counted.field("counts")}
    )


def merge(tables: Iterable[pa.Table]) -> pa.Table:
    """Sums the counts of equal values."""
    merged = pa.concat_tables([_EMPTY, *tables])
    if not merged.num_rows:
        return merged  # Arrow would reserve gigabytes to group nothing
    grouped = merged.group_by("value").aggregate([("count", "sum")])
    return grouped.rename_columns(
        ["value" if n == "value" else "count" for n in grouped.column_names]
    ).select(["value", "count"])


SCHEMA = pa.schema({"value": pa.binary(), "count": pa.int64()})
_EMPTY = SCHEMA.empty_table()


def prune(counts: pa.Table, min_count: int, max_size: int) -> list[bytes]:
    """The kept values in TFT's order."""
    often = pc.greater_equal(counts["count"], min_count)
    keep = pc.and_(often, usable(counts["value"]))
    kept = counts.filter(keep).sort_by(
        [("count", "descending"), ("value", "descending")]
    )
    return list(kept["value"][:max_size].to_pylist())


def usable(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """True of values that can be a line of a file."""
    keep = pc.greater(pc.binary_length(values), 0)
    for line_break in (b"\n", b"\r"):
        found = pc.find_substring(values, line_break)
        keep = pc.and_(keep, pc.less(found, 0))
    return keep


def _write(
    item: tuple[int, pa.Table],
    vocabularies: Sequence[Vocabulary],
    folder: str,
) -> tuple[int, str]:
    index, counts = item
    return index, write(counts, vocabularies[index], folder, index == 0)


def write(
    counts: pa.Table, wanted: Vocabulary, folder: str, labels: bool
) -> str:
    """Writes a vocabulary, or the counts of the labels; returns the path."""
    if labels:
        found = dict(
            zip(
                counts["value"].to_pylist(),
                counts["count"].to_pylist(),
                strict=True,
            )
        )
        values = [str(found.get(v, 0)).encode() for v in (b"0", b"1")]
    else:
        values = prune(counts, wanted.min_count, wanted.max_size)
    path = os.path.join(folder, wanted.file_name)
    write_lines(values, path)
    return path


def write_lines(values: Sequence[bytes], path: str) -> None:
    """Writes the file of a vocabulary."""
    with FileSystems.create(path) as stream:
        stream.write(b"\n".join(values or [EMPTY_VOCABULARY]) + b"\n")
