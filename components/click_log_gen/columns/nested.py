"""Values of rows that are Python objects: found by path, kept as text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from components.click_log_gen.columns.value_text import category


class UnfitError(Exception):
    """A value that no feature can hold; the message has the column."""


def pick(row: dict[str, Any], name: str) -> Any:
    """The value of column `name`; `a.b` is key a.b, or b of the object a."""
    value = row.get(name)
    if value is not None or "." not in name:
        return value
    value = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


class Number(str):
    """A number of JSON with a fraction or an exponent, as it is written."""


def as_text(name: str, value: Any, kind: str = "string") -> Any:
    """Text, None, or a list of them; raises UnfitError on anything else.

    Where `kind` is "string" a number becomes its category.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return category(float(value)) if kind == "string" else str(value)
    if isinstance(value, int | float):
        return category(value)
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise UnfitError(f"column {name}: not UTF-8") from error
        return value
    if isinstance(value, list) and not any(isinstance(v, list) for v in value):
        return [as_text(name, v, kind) for v in value]
    what = "an object" if isinstance(value, dict) else "a list of lists"
    raise UnfitError(f"column {name}: {what}")


def text_array(values: list[Any]) -> tuple[pa.Array, bool]:
    """Result of `as_text` as strings or lists of strings, and if it is loose.

    It is where texts and lists are mixed: a list of one value is a text then,
    and a list of one that was a list has a null beside its value.
    """
    if not any(isinstance(value, list) for value in values):
        return pa.array(values, pa.string()), False
    loose = any(isinstance(value, str) for value in values)
    if loose:
        values = [
            [v]
            if isinstance(v, str)
            else [*v, None]
            if v is not None and len(v) == 1
            else v
            for v in values
        ]
    return pa.array(values, pa.list_(pa.string())), loose
