"""Exports with tables in fewer bits: size, rounding, ops, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from models.architectures.registry import build_model
from models.config.training import Features, ModelConfig
from models.errors import InputError
from models.export import Served, export
from models.layers.compact_table import CompactTable, compact
from models.preprocessing.input_layout import IdFeature, Layout

LAYOUT = Layout(
    single=(IdFeature("a", 2000, 8), IdFeature("b", 300, 16)),
    lists=(),
    dense=("x",),
)
FEATURES = Features.model_validate(
    {
        "numeric": ["x"],
        "categorical": [
            {"name": name, "encode": "identity", "buckets": size}
            for name, size in (("a", 2000), ("b", 300))
        ],
    }
)
KINDS = {"x": tf.float32, "a": tf.int64, "b": tf.int64}


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        def inputs(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
            dense = {name: tf.sparse.to_dense(v) for name, v in raw.items()}
            ids = tf.concat([dense["a"], dense["b"]], 1)
            return {
                "ids": tf.ensure_shape(ids, [None, 2]),
                "dense": tf.ensure_shape(dense["x"], [None, 1]),
            }

        return inputs

    def raw_feature_spec(self) -> dict[str, Any]:
        return {name: tf.io.VarLenFeature(t) for name, t in KINDS.items()}


def a_model(name: str) -> Any:
    model = build_model(LAYOUT, ModelConfig(name=name, hidden=(16,)), 0.3)
    draw = np.random.default_rng(1)
    for variable in model.variables:
        if "float" in str(variable.dtype):
            values = 0.3 * draw.standard_normal(variable.shape)
            variable.assign(values.astype(np.float32))
    return model


def exported(model: Any, folder: Path) -> tuple[Any, int]:
    """Its predictions of some rows, and the bytes of its variables."""
    export(Served(model, Transform(), FEATURES), str(folder), {})
    draw = np.random.default_rng(2)
    rows = {
        "x": tf.constant(draw.random(512), tf.float32),
        "a": tf.constant(draw.integers(0, 2000, 512)),
        "b": tf.constant(draw.integers(0, 300, 512)),
    }
    loaded = tf.saved_model.load(str(folder))
    ctr = loaded.signatures["serving_default"](**rows)["ctr"].numpy()
    size = sum(f.stat().st_size for f in (folder / "variables").iterdir())
    return ctr, size


@pytest.mark.parametrize("name", ["wide_deep", "dcn_v2", "tfrs_dcn"])
def test_an_export_is_smaller_and_predicts_nearly_the_same(
    tmp_path: Path, name: str
) -> None:
    model = a_model(name)
    expected, before = exported(model, tmp_path / "float32")
    for precision, size, error in (
        ("bfloat16", 0.6, 0.01),
        ("int8", 0.5, 0.01),
    ):
        model = a_model(name)
        sizes = compact(model, precision)  # type: ignore[arg-type]
        found, after = exported(model, tmp_path / precision)
        assert after < size * before
        assert sizes["after"] < size * sizes["before"]
        assert 0 < np.abs(found - expected).max() < error
        proto = saved_model_pb2.SavedModel()
        text = (tmp_path / precision / "saved_model.pb").read_bytes()
        proto.ParseFromString(text)
        ops = {
            node.op
            for function in proto.meta_graphs[0].graph_def.library.function
            for node in function.node_def
        }
        assert not {op for op in ops if "Lion" in op}
        assert "ResourceGather" in ops


def test_int8_is_rounded_by_rows() -> None:
    draw = np.random.default_rng(3)
    values = draw.standard_normal((50, 6)) * 10.0 ** draw.integers(
        -6, 6, (50, 1)
    )
    values[7] = 0.0
    values = values.astype(np.float32)
    table = CompactTable(tf.Variable(values), "int8")
    scale = np.abs(values).max(1, keepdims=True) / np.float32(127)
    assert table.bytes == 50 * 6 + 50 * 4
    ids = draw.integers(0, 50, 200)
    found = table.rows(tf.constant(ids)).numpy()
    assert (np.abs(found - values[ids]) <= scale[ids] * 0.5001).all()
    assert (found[ids == 7] == 0).all()
    assert np.abs(table.values.numpy()).max() == 127


def test_bfloat16_is_rounded_as_tensorflow_does() -> None:
    values = np.random.default_rng(4).standard_normal((9, 3)).astype(np.float32)
    table = CompactTable(tf.Variable(values), "bfloat16")
    expected = tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()
    assert (table.rows(tf.range(9)).numpy() == expected).all()


def test_a_model_without_our_tables_is_refused() -> None:
    with pytest.raises(InputError, match=r"export.tables: received 'int8'"):
        compact(object(), "int8")
