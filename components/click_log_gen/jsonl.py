"""jsonl: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from components.click_log_gen.chunks import Chunk, blocks
from components.click_log_gen.rows import Rejected, Rows
from components.click_log_gen.text import lines


def read(chunk: Chunk, columns: Mapping[str, str]) -> Iterator[Rows]:
    """The rows of `chunk`: one JSON object a line, absent keys as null."""
    ordinal = 0
    for offset, data in blocks(chunk):
        rows = _parse(chunk.path, offset, data, columns)
        rows.ordinal += ordinal
        ordinal += len(rows.ordinal) + len(rows.rejected)
        yield rows


def _parse(
    path: str, offset: int, data: bytes, columns: Mapping[str, str]
) -> Rows:
    starts, ends = lines(data)
    table = _fast(data, columns, len(starts))
    rejected: list[Rejected] = []
    ordinal = np.arange(len(starts), dtype=np.int64)
    if table is None:
        table, reasons = _line_by_line(
            [data[a:b] for a, b in zip(starts, ends, strict=True)], columns
        )
        for index, reason in reasons.items():
            row = data[starts[index] : ends[index]]
            where = f"byte {offset + int(starts[index])}"
            rejected.append(Rejected(path, where, reason, row))
        ordinal = np.delete(ordinal, list(reasons))
    local = ordinal.copy()

    def locate(index: int) -> tuple[str, bytes]:
        start, end = int(starts[local[index]]), int(ends[local[index]])
        return f"byte {offset + start}", data[start:end]

    return Rows(table, ordinal, locate, rejected)


def _fast(
    data: bytes, columns: Mapping[str, str], count: int
) -> dict[str, pa.Array] | None:
    """Arrow's reader; None where it cannot keep every value as written.

    It stops at the first bad line and does not tell which, and a column of
    1.0 and "1" is an error to it: those blocks are read line by line.
    """
    if not count:
        return {name: pa.nulls(0) for name in columns}
    # Declared as text, a date stays as written; a number is refused, and
    # left to inference in the second try.
    text = pa.schema(
        [(n, pa.string()) for n, kind in columns.items() if kind == "string"]
    )
    for schema in (text, None):
        try:
            table = pa_json.read_json(
                pa.BufferReader(data),
                pa_json.ReadOptions(
                    use_threads=False, block_size=len(data) + 1
                ),
                pa_json.ParseOptions(explicit_schema=schema),
            )
        except pa.ArrowInvalid:
            continue
        arrays = {
            name: table.column(name).combine_chunks()
            if name in table.column_names
            else pa.nulls(count)
            for name in columns
        }
        if table.num_rows == count and all(
            _as_written(arrays[name].type, kind)
            for name, kind in columns.items()
        ):
            return arrays
    return None


def _as_written(kind: pa.DataType, wanted: str) -> bool:
    """Whether Arrow's inference lost nothing of the text."""
    if pa.types.is_struct(kind) or pa.types.is_timestamp(kind):
        return False
    return not (wanted == "string" and pa.types.is_floating(kind))


def _line_by_line(
    texts: list[bytes], columns: Collection[str]
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Values as text, as written; and index -> reason for bad lines."""
    values: dict[str, list[str | None]] = {name: [] for name in columns}
    reasons: dict[int, str] = {}
    for index, text in enumerate(texts):
        try:
            row = json.loads(
                text, parse_float=str, parse_int=str, parse_constant=str
            )
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            picked = {name: _as_text(name, row.get(name)) for name in columns}
        except UnicodeDecodeError:
            reasons[index] = "not UTF-8"
        except (ValueError, RecursionError) as error:
            message = getattr(error, "msg", None) or str(error)
            reasons[index] = f"not valid JSON: {message}"[:120]
        else:
            for name, value in picked.items():
                values[name].append(value)
    return (
        {name: pa.array(v, pa.string()) for name, v in values.items()},
        reasons,
    )


def _as_text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError(f"{name} is a {type(value).__name__}")
