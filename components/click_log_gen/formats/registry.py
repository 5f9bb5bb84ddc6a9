"""One door to all formats: the rows of a chunk, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.sections import LogFiles
from components.click_log_gen.files.chunks import Chunk, unchanged
from components.click_log_gen.formats import (
    avro,
    column_types,
    columnar,
    delimited,
    jsonl,
)


def read(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> Iterator[Rows]:
    """The rows of `chunk`, in order, some at a time.

    Args:
        columns: name -> what it will be read as: float, int, string, label or
            time. A hint: values that do not fit come as they are.

    Raises:
        InputError: the file as a whole cannot be read, or changed meanwhile.
    """
    with unchanged(chunk):
        column_types.check(chunk, source, columns)
        yield from _read(chunk, source, columns)


def _read(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> Iterator[Rows]:
    if source.format in ("csv", "tsv"):
        return delimited.read(chunk, source, columns)
    if source.format == "jsonl":
        return jsonl.read(chunk, source, columns)
    if source.format == "parquet":
        return columnar.read_parquet(chunk, columns)
    if source.format == "avro":
        return avro.read(chunk, columns)
    return columnar.read_tfrecord(chunk, source, columns)


def count(chunk: Chunk, source: LogFiles) -> int:
    """Rows of `chunk`, bad ones included, without parsing them."""
    with unchanged(chunk):
        if source.format == "parquet":
            return columnar.count_parquet(chunk)
        if source.format == "avro":
            return avro.count(chunk)
        if source.format == "tfrecord":
            return columnar.count_tfrecord(chunk, source)
        return sum(len(lines) for lines in delimited.body(chunk, source))
