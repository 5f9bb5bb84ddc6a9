"""Avro schemas: what to decode by, and the Arrow types of columns."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pyarrow as pa

from models.errors import InputError

_ARROW = {
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "enum": pa.string(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "null": pa.null(),
}
_TIMES = {
    f"{local}timestamp-{name}": pa.timestamp(unit)
    for local in ("", "local-")
    for name, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
} | {"date": pa.date32()}
_MIXED = "mixed"


class Schema:
    """The schema of one file's records.

    decoder: for fastavro, of an array of records in which times are numbers.

    Raises:
        InputError: it is none, or one that allows values without end.
    """

    def __init__(self, text: bytes) -> None:
        try:
            self._names: dict[str, Any] = {}
            self._root: Any = fastavro.parse_schema(
                json.loads(text), self._names, _write_hint=False
            )
            self._check(self._root, ())
            self.decoder = fastavro.parse_schema(
                {"type": "array", "items": _plain(json.loads(text))}
            )
        except InputError:
            raise
        except Exception as error:  # whatever a wrong schema makes it raise
            raise InputError(
                f"damaged Avro schema: {str(error) or error!r:.200}"
            ) from error
        if self._kind(self._root) != "record":
            raise InputError("an Avro file whose items are no records")

    @property
    def columns(self) -> list[str]:
        """Names of the fields."""
        return [field["name"] for field in self._root["fields"]]

    def type(self, column: str) -> pa.DataType | None:
        """The Arrow type of a column, or of a path; None if it has several.

        Raises:
            InputError: there is no such column, or it is a record or a map.
        """
        node: Any = self._root
        for part in column.split("."):
            node = self._one(node)
            fields = {}
            if self._kind(node) == "record":
                fields = {f["name"]: f["type"] for f in node["fields"]}
            if part not in fields:
                shown = ", ".join(self.columns)
                raise InputError(
                    f"no column {column!r}. Its columns: {shown:.2000}"
                )
            node = fields[part]
        node = self._one(node)
        return None if node is _MIXED else self._arrow(column, node)

    def _arrow(self, column: str, node: Any) -> pa.DataType | None:
        kind = self._kind(node)
        if kind == "array":
            item = self._one(node["items"])
            if item is not _MIXED and self._kind(item) in _ARROW:
                return pa.list_(self._arrow(column, item))
            return None
        if kind not in _ARROW:
            raise InputError(
                f"column {column!r} is a {kind}; accepted: one of its values,"
                f" such as {column + '.name'!r}"
            )
        return _ARROW[kind]

    def time(self, column: str) -> pa.DataType | None:
        """The timestamp or date that the numbers of a column mean."""
        node: Any = self._root
        for part in column.split("."):
            node = self._one(node)
            node = {f["name"]: f["type"] for f in node["fields"]}[part]
        node = self._one(node)
        logical = node.get("logicalType") if isinstance(node, dict) else None
        return _TIMES.get(str(logical))

    def _one(self, node: Any) -> Any:
        """What a union holds besides null; _MIXED if that is several."""
        node = self._names.get(node, node) if isinstance(node, str) else node
        if not isinstance(node, list):
            return node
        given = [n for n in node if self._kind(n) != "null"]
        return self._one(given[0]) if len(given) == 1 else _MIXED

    def _kind(self, node: Any) -> str:
        if isinstance(node, str):
            node = self._names.get(node, node)
        while isinstance(node, dict) and "type" in node:
            node = node["type"]
        return node if isinstance(node, str) else "union"

    def _check(self, node: Any, above: tuple[str, ...]) -> int:
        """How many bytes a value has at least; refuses what has no end."""
        if isinstance(node, str):
            if node not in self._names:
                return int(node != "null")
            node = self._names[node]
        if isinstance(node, list):
            return 1 + min([self._check(item, above) for item in node] or [0])
        kind = node["type"]
        if not isinstance(kind, str) or kind in self._names:
            return self._check(kind, above)
        if kind == "record":
            if node["name"] in above or len(above) > _DEEPEST:
                raise InputError("an Avro schema that contains itself")
            above = (*above, node["name"])
            return sum(self._check(f["type"], above) for f in node["fields"])
        if kind == "array" and not self._check(node["items"], above):
            raise InputError("an Avro array of items that have no bytes")
        if kind == "map":
            self._check(node["values"], above)
        return int(node["size"]) if kind == "fixed" else int(kind != "null")


_DEEPEST = 50


def _plain(node: Any) -> Any:
    """A schema without logical types, but for decimals."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    keep = node.get("logicalType") == "decimal"
    return {
        key: _plain(value)
        if key in ("type", "items", "values")
        else [_plain(field) for field in value]
        if key == "fields"
        else value
        for key, value in node.items()
        if keep or key != "logicalType"
    }
