"""The files of one log hold values of one sort in a column read as text.

As text, a timestamp is neither the number of seconds nor its day: where one
file has the one and another the other, a category would silently be two. Types
of one sort, such as int64 and decimal, agree: one value is one text in each.
Columns read as numbers are parsed by the config, whatever holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from components.click_log_gen.config.log_files import LogFiles
from components.click_log_gen.files.chunks import Chunk
from components.click_log_gen.formats import log_format
from models.errors import InputError


def check(chunk: Chunk, source: LogFiles, columns: Mapping[str, str]) -> None:
    """Compares the chunk's file to the first one of its log.

    Raises:
        InputError: they disagree; it names the column and the first file.
    """
    names = [name for name, kind in columns.items() if kind == "string"]
    if chunk.path == chunk.first or not names:
        return
    first = _sorts(chunk.first, source, names)
    for name, sort in _sorts(chunk.path, source, names).items():
        if first.get(name, sort) != sort:
            raise InputError(
                f"column {name!r} holds {sort}, but {first[name]} in"
                f" {chunk.first}. All files of a log have to agree"
            )


def _sorts(path: str, source: LogFiles, names: Iterable[str]) -> dict[str, str]:
    """Column -> what it holds, where that is known."""
    types = log_format.of(source).types(path, names)
    found = {name: _sort(kind) for name, kind in types.items()}
    return {name: sort for name, sort in found.items() if sort}


def _sort(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        return _sort(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _sort(kind.storage_type)
    if pa.types.is_nested(kind):
        # A list of one is its value.
        return _sort(kind.value_type) if hasattr(kind, "value_type") else ""
    if pa.types.is_null(kind):
        return ""
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_date(kind):
        return "days"
    if pa.types.is_time(kind):
        return "times of day"
    if pa.types.is_temporal(kind):
        return "times"
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return "numbers"
    return "text"
