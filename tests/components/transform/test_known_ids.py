"""Columns looked up natively are transformed as Transform's graph does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from components.example_io import native
from components.example_io.tfrecord import frame
from components.transform.executor import Executor
from components.transform.known_ids import ByColumns
from components.transform.materialize import Materialize
from tests.components.transform.runs import run
from tests.components.transform.test_executor import FEATURES, FILES, SPEC
from tests.components.transform.test_observation import WANTED, records


@pytest.fixture(scope="module")
def transform(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not native.usable():
        pytest.skip(native.load().reason)
    folder = tmp_path_factory.mktemp("transform")
    return folder, run(Executor, folder, FILES, SPEC, FEATURES)


def test_columns_give_what_the_graph_gives(transform: Any) -> None:
    _, made = transform
    by_columns = ByColumns.of(WANTED, made)
    assert by_columns is not None
    some = records()
    parsed = tf.io.parse_example(
        tf.constant(some.to_list()), made.raw_feature_spec()
    )
    expected = made.transform_features_layer()(parsed)
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


def test_without_the_library_files_are_the_same(
    transform: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = transform
    source = str(tmp_path / "source")
    rows = pa.array(records().to_list(), pa.binary())
    Path(source).write_bytes(frame(rows).to_pybytes())
    for name in ("library", "TensorFlow"):
        work = Materialize(str(folder / "graph"), WANTED)
        work.setup()
        work.process((source, str(tmp_path / name)))
        monkeypatch.setattr(
            native, "load", lambda: native.Library(None, "a test")
        )
    written = (tmp_path / "library").read_bytes()
    assert written == (tmp_path / "TensorFlow").read_bytes()
    assert len(written) > 400 * 16


@pytest.mark.parametrize("name", ["site", "hour", "score"])
def test_groups_are_equal_where_values_are(transform: Any, name: str) -> None:
    _, made = transform
    by_columns = ByColumns.of(WANTED, made, name)
    assert by_columns is not None
    some = records()
    parsed = tf.io.parse_example(
        tf.constant(some.to_list()), made.raw_feature_spec()
    )[name]
    values: list[Any] = [None] * len(some)
    rows = parsed.indices[:, 0].numpy().tolist()
    for row, value in zip(rows, parsed.values.numpy().tolist(), strict=True):
        values[row] = value or None if name == "site" else value
    groups = by_columns(some)["groups"].numpy().tolist()
    number: dict[Any, int] = {}
    for value, group in zip(values, groups, strict=True):
        assert group == (
            -1 if value is None else number.setdefault(value, group)
        )
    assert len(set(number.values())) == len(number) > 2
