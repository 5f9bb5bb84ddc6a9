"""jsonl: blocks of lines to Arrow columns, bad lines told apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from components.click_log_gen.columns.nested import (
    Number,
    UnfitError,
    as_text,
    pick,
    text_array,
)
from components.click_log_gen.columns.rows import Rows
from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.lines import Lines
from components.click_log_gen.formats.text import TextFormat

_SAMPLE = 100  # lines looked at for the types of a block
_ESCAPED_KEY = re.compile(rb'[{,]\s*"[^"\\]*\\')
_NUMBERS = ("float", "int")
_DEFAULTS = {"float": pa.float64(), "string": pa.string()}


class JsonLines(TextFormat):
    """One JSON object a line, absent keys as null.

    A column `a.b` that is no key of its own is key b of the object a.
    """

    def parse(
        self, lines: Lines, source: LogFiles, columns: Mapping[str, str]
    ) -> Rows:
        """The rows of some lines."""
        return _parse(lines, columns)


JSONL = JsonLines()


def _parse(lines: Lines, columns: Mapping[str, str]) -> Rows:
    arrays = _by_arrow(lines, columns)
    if arrays is not None:
        return lines.rows(arrays)
    values, reasons = _line_by_line(lines, columns)
    texts = {name: text_array(v) for name, v in values.items()}
    arrays = {name: array for name, (array, _) in texts.items()}
    loose = [name for name, (_, mixed) in texts.items() if mixed]
    return lines.rows(arrays, reasons, loose)


def _by_arrow(
    lines: Lines, columns: Mapping[str, str]
) -> dict[str, pa.Array] | None:
    """Arrow's reader; None where it would not give what the lines say.

    It stops at the first bad line and does not tell which. It takes values of
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
    arrays = {name: _column(table, name) for name in columns}
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
            value = pick(row, name)
            if value is None:
                continue
            kind = _type(value, columns[name])
            if kind is None:
                return None
            types[name] = kind
        if len(types) == len(columns):
            break
    for name, kind in columns.items():
        types.setdefault(name, _DEFAULTS.get(kind, pa.int64()))
    return _tree(types)


def _tree(types: Mapping[str, pa.DataType]) -> pa.Schema | None:
    """A schema in which `a.b` is a key, and key b of the object a too.

    None where a is a column itself.
    """
    inner: dict[str, dict[str, pa.DataType]] = {}
    for name, kind in types.items():
        first, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(first, {})[rest] = kind
    if types.keys() & inner.keys():
        return None
    fields = list(types.items())
    for name, below in inner.items():
        tree = _tree(below)
        if tree is None:
            return None
        fields.append((name, pa.struct(list(tree))))
    return pa.schema(fields)


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column of `table`, be it a key or a path."""
    array = table.column(name).combine_chunks()
    first, dot, rest = name.partition(".")
    if not dot:
        return array
    below = table.column(first).combine_chunks()
    return pc.coalesce(array, _below(below, rest.split(".")))


def _below(array: pa.Array, path: list[str]) -> pa.Array:
    for part in path:
        array = pc.struct_field(array, part)
    return array


def _type(value: Any, kind: str) -> pa.DataType | None:
    """The Arrow type that keeps `value` and those after it, if any does."""
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, bool):
        return None if kind in _NUMBERS else pa.bool_()
    if isinstance(value, int):
        return pa.float64() if kind == "float" else pa.int64()
    if isinstance(value, float) and kind not in ("int", "string"):
        # Where it is text, integers may follow that are no doubles.
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
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Values as text; and line -> reason for the bad ones."""
    values: dict[str, list[Any]] = {name: [] for name in columns}
    reasons: dict[int, str] = {}
    for index in range(len(lines)):
        try:
            row = json.loads(
                lines.row(index).decode(),
                parse_float=Number,
                parse_int=_integer,
                parse_constant=Number,
            )
            if not isinstance(row, dict):
                raise ValueError("not an object")
            picked = [
                as_text(name, pick(row, name), kind)
                for name, kind in columns.items()
            ]
        except UnicodeDecodeError:
            reasons[index] = "not UTF-8"
        except UnfitError as error:
            reasons[index] = str(error)
        except json.JSONDecodeError as error:
            reasons[index] = f"not valid JSON: {error.msg}"
        except (ValueError, RecursionError) as error:
            reasons[index] = f"not valid JSON: {error}"[:120]
        else:
            for name, value in zip(columns, picked, strict=True):
                values[name].append(value)
    return values, reasons


def _integer(text: str) -> str:
    return "0" if text == "-0" else text
