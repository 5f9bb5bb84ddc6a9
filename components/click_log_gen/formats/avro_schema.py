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
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "enum": pa.string(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "null": pa.null(),
}
_TIMES = {
    f"{local}timestamp-{name}": pa.timestamp(unit, zone)
    for local, zone in (("", "UTC"), ("local-", None))
    for name, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
} | {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
}
_MOST_DIGITS = 76  # of a decimal in Arrow
_MIXED = "mixed"
_MOST_PARTS = 1_000_000


class Schema:
    """The schema of one file's records.

    decoder: for fastavro, of an array of records in which times are numbers.

    Raises:
        InputError: it is none, or one that allows values without end.
    """

    def __init__(self, text: bytes) -> None:
        try:
            self._names: dict[str, Any] = {}
            self._seen: dict[str, tuple[int, int]] = {}
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
        node = self._type_of(self._find(column))
        return None if node is _MIXED else self._arrow(column, node)

    def _find(self, column: str) -> Any:
        node: Any = self._root
        for part in column.split("."):
            node = self._type_of(node)
            fields = node["fields"] if self._kind(node) == "record" else []
            found = [f["type"] for f in fields if f["name"] == part]
            if not found:
                shown = ", ".join(self.columns)
                raise InputError(
                    f"no column {column!r}. Its columns: {shown:.2000}"
                )
            node = found[0]
        return node

    def _arrow(self, column: str, node: Any) -> pa.DataType | None:
        kind = self._kind(node)
        if kind == "array":
            item = self._type_of(node["items"])
            if item is not _MIXED and self._kind(item) in _ARROW:
                return pa.list_(self._arrow(column, item))
            return None
        if kind not in _ARROW:
            raise InputError(
                f"column {column!r} is a {kind}; accepted: one of its values,"
                f" such as {column + '.name'!r}"
            )
        return self._logical(column, node) or _ARROW[kind]

    def _logical(self, column: str, node: Any) -> pa.DataType | None:
        """Logical type of bytes or numbers, where the schema has one."""
        if not isinstance(node, dict):
            return None
        logical, digits = node.get("logicalType"), node.get("precision", 0)
        if logical == "duration":
            raise InputError(
                f"column {column!r} is a duration; accepted: a number, such as"
                " its seconds"
            )
        known = isinstance(digits, int) and 0 < digits <= _MOST_DIGITS
        if logical == "decimal" and known:
            make = pa.decimal128 if digits <= 38 else pa.decimal256
            return make(digits, node.get("scale", 0))
        if self._kind(node) == "fixed" and logical != "decimal":
            return pa.binary(node["size"]) if node["size"] == 16 else None
        return _TIMES.get(str(logical))

    def _type_of(self, node: Any) -> Any:
        """Type that a union holds besides null; _MIXED if there are several."""
        node = self._names.get(node, node) if isinstance(node, str) else node
        if not isinstance(node, list):
            return node
        given = [n for n in node if self._kind(n) != "null"]
        return self._type_of(given[0]) if len(given) == 1 else _MIXED

    def _kind(self, node: Any) -> str:
        if isinstance(node, str):
            node = self._names.get(node, node)
        while isinstance(node, dict) and "type" in node:
            node = node["type"]
        return node if isinstance(node, str) else "union"

    def _check(self, node: Any, above: tuple[str, ...]) -> tuple[int, int]:
        """How many bytes a value has at least, and how many parts at most.

        Refuses what has no end; an array counts as one part.
        """
        if isinstance(node, str) and node in self._names:
            if node in above:
                raise InputError("an Avro schema that contains itself")
            if node not in self._seen:
                self._seen[node] = self._check(self._names[node], above)
            return self._seen[node]
        if isinstance(node, str):
            return int(node != "null"), 1
        if isinstance(node, list):
            found = [self._check(item, above) for item in node] or [(0, 0)]
            return 1 + min(s for s, _ in found), 1 + max(n for _, n in found)
        kind = node["type"]
        if not isinstance(kind, str) or kind in self._names:
            return self._check(kind, above)
        if kind == "record":
            above = (*above, node["name"])
            found = [self._check(f["type"], above) for f in node["fields"]]
            size, parts = sum(s for s, _ in found), sum(n for _, n in found)
            if parts > _MOST_PARTS:
                raise InputError("an Avro schema of too many parts")
            return size, 1 + parts
        if kind == "array" and not self._check(node["items"], above)[0]:
            raise InputError("an Avro array of items that have no bytes")
        if kind == "map":
            self._check(node["values"], above)
        return int(node["size"]) if kind == "fixed" else int(kind != "null"), 1


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
