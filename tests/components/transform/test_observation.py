"""Columns that Arrow takes out of examples are those of TensorFlow's parser."""

from __future__ import annotations

import io
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.example_io.tf_example import encode
from components.example_io.tfrecord import Records, blocks, frame
from components.transform.observation import Observer
from models.config.training import Features
from models.preprocessing import vocabulary
from models.preprocessing.preprocessing_fn import observe
from tests.components.transform.test_executor import FEATURES, SPEC, rows

WANTED = Features.model_validate(FEATURES)
_KINDS = {
    tf.string: pa.string(),
    tf.int64: pa.int64(),
    tf.float32: pa.float32(),
}


def text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def records() -> Records:
    """Rows as ingest writes them: the same features in each."""
    data = rows(400)
    columns = {}
    for name, one in SPEC.items():
        values = [row.get(name) for row in data]
        kind = _KINDS[one.dtype]
        if any(isinstance(value, list) for value in values):
            if one.dtype == tf.string:
                values = [v and list(map(text, v)) for v in values]
            kind = pa.list_(kind)
        elif one.dtype == tf.string:
            values = [v and text(v) for v in values]
        columns[name] = pa.array(values, kind)
    (found,) = blocks(io.BytesIO(frame(encode(columns)).to_pybytes()), 1000)
    return found


def counts(values: Any) -> dict[bytes, int]:
    """Those of missing values, which no vocabulary holds, are left out."""
    table = vocabulary.count(values)
    found = zip(
        table["value"].to_pylist(), table["count"].to_pylist(), strict=True
    )
    return {value: count for value, count in found if value}


def test_what_is_observed_is_that_of_the_parser() -> None:
    some = records()
    parsed = tf.io.parse_example(tf.constant(some.to_list()), SPEC)
    expected = tf.nest.map_structure(
        lambda tensor: tensor.numpy(), observe(parsed, WANTED)
    )
    observer = Observer(WANTED, SPEC)
    with mock.patch.object(Observer, "_whole", side_effect=AssertionError):
        received = observer(some)
    np.testing.assert_array_equal(received.label, expected.label)
    np.testing.assert_array_equal(received.dense, expected.dense)
    for one, other in zip(received.numbers, expected.numbers, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(received.texts) == len(expected.texts)
    for one, other in zip(received.texts, expected.texts, strict=True):
        assert counts(one) == counts(other)
    assert any(isinstance(one, pa.ChunkedArray) for one in received.texts)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC | {"hour": tf.io.FixedLenFeature([], tf.int64, -1)},
        {name: one for name, one in SPEC.items() if name != "price"},
    ],
    ids=["a curated schema's dense feature", "a column nobody wants"],
)
def test_other_specs_give_what_the_parser_gives(spec: dict[str, Any]) -> None:
    data = encode({"hour": pa.array([3, 4]), "site": pa.array(["a", "a"])})
    (some,) = blocks(io.BytesIO(frame(data).to_pybytes()), 1000)
    received = Observer(WANTED, spec)(some)
    parsed = tf.io.parse_example(tf.constant(some.to_list()), spec)
    expected = observe(parsed, WANTED)
    np.testing.assert_array_equal(received.dense, expected.dense.numpy())
    assert counts(received.texts[0]) == counts(expected.texts[0].numpy())
