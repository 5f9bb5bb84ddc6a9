"""TF Serving's JSON: request bodies to columns, outputs to response bodies.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from serving.columns import Array, to_column
from serving.errors import BadInputError, shown

DEFAULT_SIGNATURE = "serving_default"
CTR = "ctr"  # the output that is the probability of a click
Inputs = Mapping[str, np.dtype[Any]]
Aliases = Mapping[str, str]
_NONE: Aliases = {}
_SHOWN = 10  # unknown features named in a message


@dataclass(frozen=True)
class Request:
    """A decoded predict request; every column has the same length."""

    signature: str
    columns: dict[str, Array]
    by_row: bool


def decode(
    body: bytes,
    signatures: Mapping[str, Inputs],
    aliases: Aliases = _NONE,
    ignore_unknown: bool = False,
    lists: Mapping[str, str] = _NONE,
) -> Request:
    """Reads the body of a `:predict` call.

    Args:
        body: JSON with `instances` (rows) or `inputs` (columns), and
            optionally `signature_name`.
        signatures: signature name -> input name -> dtype.
        aliases: other name of an input -> its name.
        ignore_unknown: whether columns that are no feature are left out.
        lists: feature that may come as a list -> separator in a text.

    Raises:
        BadInputError: not JSON, or it does not fit the signature.
    """
    document = load_json(body)
    if not isinstance(document, dict):
        raise BadInputError(
            "expected a JSON object with 'instances' or 'inputs'. "
            f"Received: {type(document).__name__}"
        )
    name = document.get("signature_name")
    inputs = find_signature(name, signatures)
    if ("instances" in document) == ("inputs" in document):
        raise BadInputError(
            "expected exactly one of 'instances' (rows) and 'inputs' "
            f"(columns). Received: {shown(sorted(document))}"
        )
    by_row = "instances" in document
    if by_row:
        rows = document["instances"]
        if aliases and isinstance(rows, list):
            rows = [renamed(row, aliases) for row in rows]
        raw = _rows_to_columns(rows, inputs, ignore_unknown)
    else:
        given = renamed(document["inputs"], aliases)
        if ignore_unknown and isinstance(given, dict):
            given = {k: v for k, v in given.items() if k in inputs}
        raw = _check_columns(given, inputs)
    columns = {
        feature: to_column(feature, inputs[feature], values, lists.get(feature))
        for feature, values in raw.items()
    }
    return Request(name or DEFAULT_SIGNATURE, columns, by_row)


def encode(outputs: Mapping[str, Array], by_row: bool) -> bytes:
    """Writes the response body.

    As TF Serving does: the name of a single output is left out, and a
    float32 is written with the digits that float32 needs.
    """
    # orjson wants contiguous arrays; TensorFlow's are.
    single = next(iter(outputs.values())) if len(outputs) == 1 else None
    content: object
    if not by_row:
        content = {"outputs": dict(outputs) if single is None else single}
    elif single is not None:
        content = {"predictions": single}
    else:
        length = len(next(iter(outputs.values())))
        content = {
            "predictions": [
                {name: array[row] for name, array in outputs.items()}
                for row in range(length)
            ]
        }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def find_signature(name: object, signatures: Mapping[str, Inputs]) -> Inputs:
    """The inputs of a signature; no name means the default one."""
    key = name or DEFAULT_SIGNATURE
    if not isinstance(key, str) or key not in signatures:
        raise BadInputError(
            f"unknown signature. Received: {shown(name)}, "
            f"accepted: {sorted(signatures)}"
        )
    return signatures[key]


def renamed(given: Any, aliases: Aliases) -> Any:
    """A mapping by its keys' own names; anything else as it is."""
    if not isinstance(given, dict) or aliases.keys().isdisjoint(given):
        return given
    return {
        # A name given twice stays, to be refused as unknown.
        name if aliases.get(name, name) in given else aliases[name]: value
        for name, value in given.items()
    }


def check_names(received: Mapping[str, object], inputs: Inputs) -> None:
    """Raises BadInputError unless the names are exactly the signature's."""
    missing = [repr(name) for name in inputs if name not in received]
    if missing:
        raise BadInputError(
            f"missing feature {', '.join(missing)} "
            "(send null where the value is unknown)"
        )
    unknown = [shown(name) for name in received if name not in inputs]
    if unknown:
        some = unknown[:_SHOWN] + ["..."] * (len(unknown) > _SHOWN)
        raise BadInputError(
            f"unknown feature {', '.join(some)}. Accepted: {', '.join(inputs)}"
        )


def load_json(body: bytes) -> object:
    """Parses JSON; as TF Serving does, NaN and Infinity too.

    Raises:
        BadInputError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        # TF Serving's parser takes NaN and Infinity, which are not JSON;
        # so does this one, at a tenth of the speed.
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"the body is not JSON: {error}") from None


def _is_bytes(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) == 1
        and isinstance(value.get("b64"), str)
    )


def _rows_to_columns(
    rows: object, inputs: Inputs, ignore_unknown: bool
) -> Mapping[str, Sequence[object]]:
    if not isinstance(rows, list):
        raise BadInputError(
            "'instances' must be a list of rows. "
            f"Received: {type(rows).__name__}"
        )
    if not rows:
        raise BadInputError("'instances' holds no rows")
    if len(inputs) == 1 and (
        not isinstance(rows[0], dict) or _is_bytes(rows[0])
    ):
        return {next(iter(inputs)): rows}
    try:
        columns = {name: [row[name] for row in rows] for name in inputs}
        if all(type(row) is dict for row in rows) and (
            ignore_unknown or set(map(len, rows)) == {len(inputs)}
        ):
            return columns
    except (KeyError, TypeError, IndexError):
        pass
    raise _first_bad_row(rows, inputs, ignore_unknown)


def _first_bad_row(
    rows: list[object], inputs: Inputs, ignore_unknown: bool
) -> BadInputError:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            return BadInputError(
                f"row {number} of 'instances' must be an object of feature: "
                f"value. Received: {type(row).__name__}"
            )
        if ignore_unknown:
            row = {k: v for k, v in row.items() if k in inputs}
        try:
            check_names(row, inputs)
        except BadInputError as error:
            return BadInputError(f"row {number} of 'instances': {error}")
    raise AssertionError("every row fits the signature")


def _check_columns(
    columns: object, inputs: Inputs
) -> Mapping[str, Sequence[object]]:
    if len(inputs) == 1 and isinstance(columns, list):
        columns = {next(iter(inputs)): columns}
    if not isinstance(columns, dict):
        raise BadInputError(
            "'inputs' must be an object of feature: list of values. "
            f"Received: {type(columns).__name__}"
        )
    check_names(columns, inputs)
    for name, values in columns.items():
        if not isinstance(values, list):
            raise BadInputError(
                f"feature {name!r}: expected a list with one value per row. "
                f"Received: {type(values).__name__}"
            )
    first = next(iter(inputs))
    for name, values in columns.items():
        if len(values) != len(columns[first]):
            raise BadInputError(
                f"feature {name!r} has {len(values)} values where {first!r} "
                f"has {len(columns[first])}"
            )
    if not columns[first]:
        raise BadInputError(f"'inputs' holds no rows: {first!r} is empty")
    return columns
