"""Rows of the examples, as a client of the server has them."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

Value = float | int | bytes | None
_LOOKED_AT = 100  # rows of a file for each that is asked
_MISSING: dict[str, Value] = {"float32": math.nan, "int64": -1, "string": b""}


@dataclass(frozen=True)
class Rows:
    """Rows in each form that a server takes.

    serialized: tf.Examples.
    columns: name in the signature -> a value a row, None where it is missing.
    dtypes: name in the signature -> TensorFlow's name of its dtype.
    names: name in the signature -> the feature's own name.
    """

    serialized: Sequence[bytes]
    columns: Mapping[str, Sequence[Value]]
    dtypes: Mapping[str, str]
    names: Mapping[str, str]

    def json(self) -> list[dict[str, Any]]:
        """Rows for REST, under the features' own names."""
        return [
            {
                self.names[name]: _json(column[row])
                for name, column in self.columns.items()
            }
            for row in range(len(self.serialized))
        ]

    def request(self, model: str, rows: slice) -> predict_pb2.PredictRequest:
        """A request of `serving_default` for gRPC."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = "serving_default"
        for name, column in self.columns.items():
            dtype = self.dtypes[name]
            values = [
                _MISSING[dtype] if value is None else value
                for value in column[rows]
            ]
            tensor = tf.make_tensor_proto(values, dtype)
            request.inputs[name].CopyFrom(tensor)
        return request

    def examples_request(self, model: str) -> predict_pb2.PredictRequest:
        """A request of `examples` for gRPC, with all rows."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = "examples"
        tensor = tf.make_tensor_proto(list(self.serialized), "string")
        request.inputs["examples"].CopyFrom(tensor)
        return request


def read(
    files: Sequence[str], count: int, separators: Mapping[str, str]
) -> list[bytes]:
    """The first tf.Examples of the files that a request can say, serialized.

    A request holds a list as a text: no value may hold the separator.

    Args:
        files: TFRecords, gzipped where the name ends in .gz.
        count: how many, at most.
        separators: feature -> what a client puts between the values of a list.
    """
    found: list[bytes] = []
    for file in files:
        kind = "GZIP" if file.endswith(".gz") else ""
        records = tf.data.TFRecordDataset([file], kind).as_numpy_iterator()
        for record in itertools.islice(records, _LOOKED_AT * count):
            if len(found) == count:
                return found
            if not separators or _can_be_said(record, separators):
                found.append(record)
    return found


def _can_be_said(record: bytes, separators: Mapping[str, str]) -> bool:
    row = tf.train.Example.FromString(record).features.feature
    return not any(
        separator.encode() in value
        for name, separator in separators.items()
        if name in row
        for value in row[name].bytes_list.value
    )


def columns(
    serialized: Sequence[bytes],
    names: Mapping[str, str],
    separators: Mapping[str, str],
) -> dict[str, list[Value]]:
    """The columns of `serving_default`: name in the signature -> values.

    Args:
        serialized: tf.Examples.
        names: name in the signature -> the feature's own name.
        separators: feature -> what a client puts between the values of a list.
    """
    examples = [
        tf.train.Example.FromString(one).features.feature for one in serialized
    ]
    return {
        served: [_value(row, name, separators.get(name)) for row in examples]
        for served, name in names.items()
    }


def _value(row: Any, name: str, separator: str | None) -> Value:
    values = list(_values(row[name])) if name in row else []
    if not values:
        return None
    if separator is not None:
        return separator.encode().join(map(_text, values))
    value: Value = values[0]
    return value


def _text(value: Any) -> bytes:
    """An item of a list; a number of 32 bits by its shortest decimal."""
    if isinstance(value, bytes):
        return value
    return str(np.float32(value)).encode()


def _values(feature: Any) -> Iterator[Any]:
    kind = feature.WhichOneof("kind")
    if kind is not None:
        yield from getattr(feature, kind).value


def _json(value: Value) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
