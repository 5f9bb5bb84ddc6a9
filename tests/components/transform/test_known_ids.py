"""Columns looked up natively are transformed as Transform's graph does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.example_io import native
from components.transform.executor import Executor
from components.transform.known_ids import ByColumns
from tests.components.transform.runs import run
from tests.components.transform.test_executor import FEATURES, FILES, SPEC
from tests.components.transform.test_observation import WANTED, records


def test_columns_give_what_the_graph_gives(tmp_path: Path) -> None:
    if not native.usable():
        pytest.skip(native.load().reason)
    transform = run(Executor, tmp_path, FILES, SPEC, FEATURES)
    by_columns = ByColumns.of(WANTED, transform)
    assert by_columns is not None
    some = records()
    parsed = tf.io.parse_example(
        tf.constant(some.to_list()), transform.raw_feature_spec()
    )
    expected = transform.transform_features_layer()(parsed)
    received = by_columns(some)
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        one, other = received[name], value
        if isinstance(other, tf.SparseTensor):
            other = tf.RaggedTensor.from_sparse(other)
        if isinstance(other, tf.RaggedTensor):
            np.testing.assert_array_equal(one.row_splits, other.row_splits)
            one, other = one.flat_values, other.flat_values
        np.testing.assert_array_equal(one, other, name)
