"""jsonl: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from components.click_log_gen.chunks import Chunk, blocks
from components.click_log_gen.lines import Lines
from components.click_log_gen.rows import Rows

_SAMPLE = 100  # lines looked at for the types of a block
_ESCAPED_KEY = re.compile(rb'[{,]\s*"[^"\\]*\\')
_NUMBERS = ("float", "int")
_DEFAULTS = {"float": pa.float64(), "string": pa.string()}


def read(chunk: Chunk, columns: Mapping[str, str]) -> Iterator[Rows]:
    """The rows of `chunk`: one JSON object a line, absent keys as null."""
    ordinal = 0
    for offset, data in blocks(chunk):
        rows = _parse(Lines(chunk.path, offset, data), columns)
        rows.ordinal += ordinal
        ordinal += rows.count + len(rows.rejected)
        yield rows


def _parse(lines: Lines, columns: Mapping[str, str]) -> Rows:
    arrays = _by_arrow(lines, columns)
    reasons: dict[int, str] = {}
    if arrays is None:
        arrays, reasons = _line_by_line(lines, columns)
    numbers = lines.others(reasons)
    return Rows(
        arrays,
        numbers.copy(),
        lambda index: lines.locate(int(numbers[index])),
        lines.rejected(reasons),
        locate_all=lambda: lines.locate_all(numbers),
    )


def _by_arrow(
    lines: Lines, columns: Mapping[str, str]
) -> dict[str, pa.Array] | None:
    """Arrow's reader; None where it would not give what the lines say.

    It stops at the first bad line and does not tell which, takes values of
    one type only, knows NaN, and crashes on a first line that says null.
    """
    if not len(lines):
        return {name: pa.nulls(0) for name in columns}
    starts, ends = lines.spans
    view = np.frombuffer(lines.data, np.uint8)
    objects = (view[starts] == ord("{")) & (view[ends - 1] == ord("}"))
    if not objects.all() or not _is_utf8(lines.data):
        return None
    if b"\\" in lines.data and _ESCAPED_KEY.search(lines.data):
        return None
    schema = _schema(lines, columns)
    if schema is None:
        return None
    try:
        table = pa_json.read_json(
            pa.BufferReader(lines.data),
            pa_json.ReadOptions(
                use_threads=False, block_size=len(lines.data) + 1
            ),
            pa_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(lines):
        return None
    arrays = {name: table.column(name).combine_chunks() for name in columns}
    if any(
        pc.any(pc.invert(pc.is_finite(array))).as_py()
        for array in arrays.values()
        if pa.types.is_floating(array.type)
    ):
        return None
    return arrays


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _schema(lines: Lines, columns: Mapping[str, str]) -> pa.Schema | None:
    """The type of each column by its first value, or None: read each line."""
    types: dict[str, pa.DataType] = {}
    for index in range(min(_SAMPLE, len(lines))):
        row = _loads(lines.row(index))
        if not isinstance(row, dict):
            return None
        for name in columns.keys() - types.keys():
            if row.get(name) is None:
                continue
            kind = _type(row[name], columns[name])
            if kind is None:
                return None
            types[name] = kind
        if len(types) == len(columns):
            break
    return pa.schema(
        [
            (name, types.get(name, _DEFAULTS.get(kind, pa.int64())))
            for name, kind in columns.items()
        ]
    )


def _type(value: Any, kind: str) -> pa.DataType | None:
    """The Arrow type that keeps `value` as written, if there is one."""
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, bool):
        return None if kind in _NUMBERS else pa.bool_()
    if isinstance(value, int):
        return pa.float64() if kind == "float" else pa.int64()
    if isinstance(value, float) and kind not in ("int", "string"):
        # As text, 1.0 would become 1, and 1e20 is an odd integer.
        return pa.float64()
    if isinstance(value, list) and kind == "string":
        first = next((v for v in value if v is not None), "")
        item = None if isinstance(first, list) else _type(first, kind)
        return None if item is None else pa.list_(item)
    return None


def _loads(row: bytes, **options: Any) -> Any:
    try:
        return json.loads(row.decode(), **options)
    except (ValueError, RecursionError):
        return None


def _line_by_line(
    lines: Lines, columns: Mapping[str, str]
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Values as text, as written; and line -> reason for the bad ones."""
    values: dict[str, list[Any]] = {name: [] for name in columns}
    reasons: dict[int, str] = {}
    for index in range(len(lines)):
        try:
            row = json.loads(
                lines.row(index).decode(),
                parse_float=str,
                parse_int=_integer,
                parse_constant=str,
            )
            if not isinstance(row, dict):
                raise ValueError("not an object")
            picked = [_as_text(name, row.get(name)) for name in columns]
        except UnicodeDecodeError:
            reasons[index] = "not UTF-8"
        except _UnfitError as error:
            reasons[index] = str(error)
        except json.JSONDecodeError as error:
            reasons[index] = f"not valid JSON: {error.msg}"
        except (ValueError, RecursionError) as error:
            reasons[index] = f"not valid JSON: {error}"[:120]
        else:
            for name, value in zip(columns, picked, strict=True):
                values[name].append(value)
    return {name: _array(v) for name, v in values.items()}, reasons


class _UnfitError(Exception):
    """A value that no feature can hold."""


def _integer(text: str) -> str:
    return "0" if text == "-0" else text


def _as_text(name: str, value: Any) -> Any:
    """Text, None, or a list of them."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise _UnfitError(f"column {name}: not UTF-8") from error
        return value
    if isinstance(value, list) and not any(isinstance(v, list) for v in value):
        return [_as_text(name, v) for v in value]
    what = "an object" if isinstance(value, dict) else "a list of lists"
    raise _UnfitError(f"column {name}: {what}")


def _array(values: list[Any]) -> pa.Array:
    if any(isinstance(value, list) for value in values):
        values = [[v] if isinstance(v, str) else v for v in values]
        return pa.array(values, pa.list_(pa.string()))
    return pa.array(values, pa.string())
