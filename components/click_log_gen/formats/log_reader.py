"""One door to all formats: the rows of a chunk, and how many there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from components.click_log_gen.columns.rows import Column, Rows, Verdicts
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files import log_paths
from components.click_log_gen.files.chunks import Chunk, unchanged
from components.click_log_gen.formats import column_types, log_format


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
        partitions = _partitions(chunk, source, columns)
        own = {n: kind for n, kind in columns.items() if n not in partitions}
        chosen = log_format.of(source)
        if partitions and not own and chosen.names_columns:
            # Some column, to know how many rows there are.
            own = dict.fromkeys(chosen.names(chunk, source)[:1], "string")
        column_types.check(chunk, source, own)
        if not chosen.names_columns:
            own = dict(columns)
        for rows in chosen.read(chunk, source, own):
            yield _with_partitions(rows, partitions) if partitions else rows


def _partitions(
    chunk: Chunk, source: LogFiles, columns: Mapping[str, str]
) -> dict[str, str | None]:
    """Those of `columns` that the folders of the file tell, as Hive's do.

    A column of the file itself counts more.
    """
    found = log_paths.partitions(chunk.path)
    partitions = {name: found[name] for name in columns if name in found}
    if not partitions:
        return {}
    names = set(log_format.of(source).names(chunk, source))
    return {
        name: value for name, value in partitions.items() if name not in names
    }


def _with_partitions(rows: Rows, partitions: Mapping[str, str | None]) -> Rows:
    columns = dict(rows.columns)
    for name, value in partitions.items():
        array = pa.repeat(pa.scalar(value, pa.string()), rows.count)
        own = columns.get(name)
        if own is None or own.null_count == rows.count:
            columns[name] = array
        elif own.null_count:
            texts = Column(name, parsed=True).written(
                own, Verdicts.none(rows.count)
            )
            columns[name] = pc.coalesce(texts, array)
    return dataclasses.replace(rows, columns=columns)


def count(chunk: Chunk, source: LogFiles) -> int:
    """Rows of `chunk`, bad ones included, without parsing them."""
    with unchanged(chunk):
        return log_format.of(source).count(chunk, source)
