"""TF Serving's Classify and Regress: rows as examples, each value a list."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from serving.columns import Array, joined, to_column
from serving.errors import BadInputError, shown
from serving.tf_serving import (
    CTR,
    Aliases,
    Inputs,
    find_signature,
    load_json,
)

Lists = Mapping[str, str] | None  # feature -> separator in a text
CLASSES = ("0", "1")  # no click, click


def decode(
    body: bytes,
    signatures: Mapping[str, Inputs],
    aliases: Aliases,
    lists: Lists = None,
) -> dict[str, Array]:
    """Reads the body of a `:classify` or `:regress` call.

    Raises:
        BadInputError: not JSON, or it does not fit the model.
    """
    document = load_json(body)
    examples = document.get("examples") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(examples, list):
        raise BadInputError(
            "expected a JSON object with 'examples', a list of objects."
            f" Received: {shown(document)}"
        )
    context = document.get("context") or {}
    for number, example in enumerate([context, *examples]):
        if not isinstance(example, dict):
            where = f"row {number - 1} of 'examples'" if number else "'context'"
            raise BadInputError(
                f"{where}: expected an object of feature: value."
                f" Received: {shown(example)}"
            )
    rows = [{**context, **example} for example in examples]
    find_signature(document.get("signature_name"), signatures)
    return to_columns(rows, find_signature(None, signatures), aliases, lists)


def values_of(example: Any) -> dict[str, list[Any]]:
    """The values of a tf.Example."""
    values: dict[str, list[Any]] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        found = list(getattr(feature, kind).value) if kind else []
        if kind == "float_list":  # of 32 bits, widened
            found = [float(str(np.float32(v))) for v in found]
        values[name] = found
    return values


def to_columns(
    rows: Iterable[Mapping[str, Any]],
    inputs: Inputs,
    aliases: Aliases,
    lists: Lists = None,
) -> dict[str, Array]:
    """Columns of `serving_default` from examples.

    As in a tf.Example a feature may be missing, and others are ignored. The
    values of a list become a text.

    Raises:
        BadInputError: there is no row, or a value does not fit.
    """
    found = values_by_name(rows, inputs, aliases)
    columns = {}
    for name, values in found.items():
        separator = (lists or {}).get(name)
        columns[name] = to_column(
            name,
            inputs[name],
            [
                _single(name, row, value)
                if separator is None
                else _joined(name, row, value, separator)
                for row, value in enumerate(values)
            ],
        )
    return columns


def values_by_name(
    rows: Iterable[Mapping[str, Any]], inputs: Iterable[str], aliases: Aliases
) -> dict[str, list[Any]]:
    """Input -> what each row has for it, by either of its names, or None.

    Raises:
        BadInputError: there is no row.
    """
    others = {name: alias for alias, name in aliases.items()}
    values: dict[str, list[Any]] = {name: [] for name in inputs}
    count = 0
    for row in rows:
        for name, column in values.items():
            column.append(row.get(name, row.get(others.get(name, name))))
        count += 1
    if not count:
        raise BadInputError("'examples' holds no rows")
    return values


def _joined(name: str, row: int, value: object, separator: str) -> object:
    """A list as a text; one value is one already."""
    if not isinstance(value, list) or len(value) < 2:
        return _single(name, row, value)
    return joined(name, row, value, separator)


def _single(name: str, row: int, value: object) -> object:
    if not isinstance(value, list):
        return value
    if len(value) > 1:
        raise BadInputError(
            f"feature {name!r}, row {row}: expected one value."
            f" Received: {shown(value)}"
        )
    return value[0] if value else None


def probabilities(outputs: Mapping[str, Array]) -> Array:
    """The click probability of each row, float32 [N].

    Raises:
        BadInputError: the model gives something else.
    """
    values = outputs.get(CTR)
    if values is None and len(outputs) == 1:
        values = next(iter(outputs.values()))
    if values is None or values.ndim != 1 or values.dtype != np.float32:
        raise BadInputError(
            f"classify and regress need a model with the output {CTR!r}, or"
            f" with one output, a number a row. It has: {', '.join(outputs)}"
        )
    return values


def classes(probability: Array) -> Array:
    """Scores of the CLASSES, float32 [N, 2]."""
    return np.stack([1 - probability, probability], 1)


def encode_classes(outputs: Mapping[str, Array]) -> bytes:
    """Writes the response of `:classify`."""
    scores = classes(probabilities(outputs))
    return _json(
        [
            [[label, score] for label, score in zip(CLASSES, row, strict=True)]
            for row in scores
        ]
    )


def encode_values(outputs: Mapping[str, Array]) -> bytes:
    """Writes the response of `:regress`."""
    return _json(probabilities(outputs))


def _json(results: object) -> bytes:
    return orjson.dumps({"results": results}, option=orjson.OPT_SERIALIZE_NUMPY)
