"""Every architecture learns, keeps gradients sparse, and exports itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2

from models.architectures.registry import build_model
from models.config.architectures import ARCHITECTURES
from models.config.training import Features, ModelConfig, TrainConfig
from models.contracts import architecture
from models.contracts.rows import ALL as LISTS
from models.contracts.rows import BARE, PLAIN, inputs, learnable
from models.export import Served, export
from models.keras_versions import keras_version, start_afresh
from models.preprocessing.input_layout import Layout
from models.training import loop
from optimizers.groups import variable_path
from optimizers.registry import build_optimizer

NAMES = list(ARCHITECTURES)


def marked(quick: list[str], ci: list[str]) -> list[Any]:
    """All names: `make ci` runs those of `ci`, `make slow` the rest too."""
    marks = {
        name: [pytest.mark.ci if name in ci else pytest.mark.slow]
        for name in NAMES
        if name not in quick
    }
    return [pytest.param(name, marks=marks.get(name, ())) for name in NAMES]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    start_afresh(1)
    yield
    keras.config.set_dtype_policy("float32")


def model_of(name: str, layout: Layout, **options: Any) -> Any:
    options = {"hidden": (16,), **options}
    return build_model(layout, ModelConfig(name=name, **options), 0.2)


def gradients(model: Any, batch: Any, jit: bool = False) -> Any:
    """Logits, and the gradient of their sum and the penalties."""

    @tf.function(jit_compile=jit or None)
    def step(batch: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            loss = tf.reduce_sum(logits) + sum(model.losses)
        return logits, tape.gradient(loss, model.trainable_variables)

    return step(batch)


@pytest.mark.parametrize("name", marked(["dcn_v2"], ["tfrs_dlrm"]))
def test_every_architecture_keeps_to_the_contract(name: str) -> None:
    architecture.check(name, {"hidden": [16]})


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_sparse_gradients(name: str) -> None:
    options = {"batch_norm": True, "dropout": 0.1, "embedding_l2": 0.01}
    model = model_of(name, LISTS, **options)
    logits, found = gradients(model, inputs(LISTS, 7))
    assert logits.shape == (7,) and logits.dtype == tf.float32
    paths = [variable_path(v) for v in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    tables = {p for p in paths if p.endswith("/table")}
    wide = set() if ARCHITECTURES[name].takes_labels else {"wide/table"}
    assert tables == wide | {
        "deep/embedding_2/table",
        "deep/embedding_4/table",
    }
    assert all(p.split("/")[0] in ("wide", "deep") for p in paths)
    for path, gradient in zip(paths, found, strict=True):
        assert isinstance(gradient, tf.IndexedSlices) == (path in tables)
    model(inputs(LISTS, 3), training=False)
    assert not model.losses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", [LISTS, BARE], ids=["all", "ids"])
def test_an_untrained_model_gives_the_base_rate(
    name: str, layout: Layout
) -> None:
    model = model_of(name, layout)
    mean = tf.reduce_mean(tf.sigmoid(model(inputs(layout, 500)))).numpy()
    assert mean == pytest.approx(0.2, rel=0.35)


@pytest.mark.parametrize("name", marked([], ["dcn_v2", "tfrs_dlrm"]))
def test_it_learns_and_the_export_is_the_model(
    name: str, tmp_path: Path
) -> None:
    model = model_of(name, LISTS, hidden=(32, 16))
    spec = {"name": "adam", "learning_rate": 0.02}
    rows = 1500
    result = loop.train(
        model,
        build_optimizer(spec, 150, keras_version(model)),
        learnable(LISTS, rows, 1).batch(100),
        learnable(LISTS, 800, 2).batch(400),
        rows,
        TrainConfig(
            batch_size=100, epochs=10, eval_steps=150, observe_steps=1000
        ),
    )
    # Without what a and b do together there is no more than 0.8.
    assert result.eval_auc > 0.97
    assert result.eval_logloss < 0.3
    columns = {
        "a": tf.constant([*range(18), 0, 11], tf.int64),
        "b": tf.range(20, dtype=tf.int64) % 12,
        "x": tf.linspace(-2.0, 2.0, 20),
        "y": tf.linspace(1.0, 0.0, 20),
        "tags": tf.constant(["", "one", "two", "four"] * 5),
        "seen": tf.constant(["eins", "", "zwei", "vier"] * 5),
    }
    raw = {
        key: tf.sparse.from_dense(tf.strings.as_string(value)[:, None])
        if key in ("tags", "seen")
        else tf.sparse.from_dense(value[:, None])
        for key, value in columns.items()
    }
    expected = tf.sigmoid(model(ragged(transformed(raw)), training=False))
    export(Served(model, Transform(), FEATURES), str(tmp_path / "m"), {})
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    found = loaded.signatures["serving_default"](**columns)["ctr"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.std(found) > 0.05
    ops = {node.op for node in nodes(tmp_path / "m")}
    assert "ResourceGather" in ops
    assert not [op for op in ops if "Lion" in op or "PyFunc" in op]


FEATURES = Features.model_validate(
    {
        "numeric": ["x", "y"],
        "categorical": [
            {"name": "a", "encode": "identity", "buckets": 29, "dim": 4},
            {"name": "b", "encode": "identity", "buckets": 29, "dim": 2},
            {"name": "tags", "list": "|"},
            {"name": "seen", "list": "|"},
        ],
    }
)


def transformed(raw: Any) -> dict[str, Any]:
    """Stand-in for the transform: raw columns to LISTS's inputs."""

    def column(name: str) -> tf.Tensor:
        sparse = raw[name]
        shape = [sparse.dense_shape[0], 1]
        one = tf.SparseTensor(sparse.indices, sparse.values, shape)
        return tf.sparse.to_dense(one)[:, 0]

    a, b = column("a"), column("b")
    found = {
        "ids": tf.stack([a, b, (a + b) % 40], 1),
        "dense": tf.stack([column("x"), column("y")], 1),
    }
    for f in LISTS.lists:
        values = tf.strings.to_hash_bucket_fast(raw[f.name].values, f.size)
        found[f"list_{f.name}"] = raw[f.name].with_values(values)
    return found


def ragged(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tf.RaggedTensor.from_sparse(value)
        if isinstance(value, tf.SparseTensor)
        else value
        for name, value in found.items()
    }


class Transform:
    """As much of a TFTransformOutput as the export needs."""

    def transform_features_layer(self) -> Any:
        return transformed

    def raw_feature_spec(self) -> dict[str, Any]:
        types = {"float": tf.float32, "int": tf.int64, "string": tf.string}
        return {
            name: tf.io.VarLenFeature(types[kind])
            for name, kind in FEATURES.kinds().items()
        }


def nodes(folder: Path) -> Iterator[Any]:
    """All nodes of a SavedModel, those of its functions too."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        yield from graph.node
        for function in graph.library.function:
            yield from function.node_def


@pytest.mark.parametrize("name", marked(["dcn_v2", "tfrs_dlrm"], NAMES))
def test_xla_and_bfloat16_give_about_the_same(name: str) -> None:
    model = model_of(name, PLAIN)
    batch = inputs(PLAIN, 16)
    expected, exact = gradients(model, batch)
    compiled, under_xla = gradients(model, batch, jit=True)
    np.testing.assert_allclose(compiled, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(exact, under_xla, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(one), tf.convert_to_tensor(other), atol=1e-4
        )
    weights = model.get_weights()
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = model_of(name, PLAIN)
    half.set_weights(weights)
    logits, _ = gradients(half, batch)
    assert logits.dtype == tf.float32
    assert all(v.dtype == tf.float32 for v in half.trainable_variables)
    np.testing.assert_allclose(logits, expected, atol=0.05)
    assert np.abs(logits - expected).max() > 0


def test_batch_norm_learns_its_averages() -> None:
    for name in ("wide_deep", "tfrs_dlrm"):
        model = model_of(name, PLAIN, batch_norm=True)
        before = [v.numpy() for v in model.non_trainable_variables]
        gradients(model, inputs(PLAIN, 64))
        moved = [
            np.abs(v.numpy() - old).max()
            for v, old in zip(
                model.non_trainable_variables, before, strict=True
            )
        ]
        assert len(moved) >= 2 and min(moved) > 0


def test_a_model_of_recommenders_can_be_fitted_by_keras() -> None:
    model = model_of("tfrs_dcn", LISTS)
    model.compile(tf_keras.optimizers.Adam(0.02))
    data = learnable(LISTS, 1000, 1).batch(100)
    losses = model.fit(data, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["wide_deep", "tfrs_dcn"])
def test_tables_begin_small_and_follow_the_seed(name: str) -> None:
    tables = []
    for seed in (3, 3, 4):
        start_afresh(seed)
        model = model_of(name, PLAIN, hidden=(4,))
        model(inputs(PLAIN, 2))
        deep = (v for v in model.deep.variables if v.shape[-1] > 1)
        tables.append(next(v for v in deep if "table" in variable_path(v)))
    same, again, other = (table.numpy() for table in tables)
    np.testing.assert_array_equal(same, again)
    assert (same != other).all()
    assert abs(same).max() < 0.05


@pytest.mark.parametrize("name", ["wide_deep", "tfrs_dcn"])
def test_dropout_is_for_training_and_from_the_seed(name: str) -> None:
    batch = inputs(PLAIN, 50)
    runs = []
    for _ in range(2):
        start_afresh(3)
        model = model_of(name, PLAIN, dropout=0.5, hidden=(64,))
        runs.append([gradients(model, batch)[0].numpy() for _ in range(2)])
        np.testing.assert_array_equal(model(batch), model(batch))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()
