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
from sklearn.metrics import roc_auc_score

from models import loop
from models.config import LABEL, Features, ModelConfig, TrainConfig
from models.export import Served, export
from models.layout import IdFeature, Layout
from models.model_config import ARCHITECTURES
from models.registry import build_model, keras_version
from optimizers.groups import variable_path
from optimizers.registry import build_optimizer

NAMES = list(ARCHITECTURES)
LISTS = Layout(
    single=(
        IdFeature("a", 30, 4),
        IdFeature("b", 30, 2),
        IdFeature("a_x_b", 40, 0),
    ),
    lists=(
        IdFeature("tags", 9, 4, pool="attention"),
        IdFeature("seen", 30, 4, table="a"),
    ),
    dense=("x", "y"),
)
PLAIN = Layout(LISTS.single[:2], (), ("x",))
BARE = Layout(LISTS.single[:2], (), ())


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    yield
    keras.config.set_dtype_policy("float32")


def inputs(layout: Layout, count: int, seed: int = 1) -> dict[str, Any]:
    """Random inputs; every third list is empty."""
    rng = np.random.default_rng(seed)
    sizes = [f.size for f in layout.single]
    ids = rng.integers(0, sizes, (count, len(sizes)))
    found: dict[str, Any] = {"ids": tf.constant(ids, tf.int64)}
    if layout.dense:
        numbers = rng.normal(size=(count, len(layout.dense)))
        found["dense"] = tf.constant(numbers, tf.float32)
    for f in layout.lists:
        lengths = np.arange(count) % 3
        values = rng.integers(0, f.size, lengths.sum())
        found[f"list_{f.name}"] = tf.RaggedTensor.from_row_lengths(
            tf.constant(values, tf.int64), lengths
        )
    return found


def learnable(layout: Layout, count: int, seed: int) -> Any:
    """Whether there is a click depends on x and on a and b together."""
    batch = inputs(layout, count, seed)
    pair = (batch["ids"][:, 0] + batch["ids"][:, 1]) % 2
    score = batch["dense"][:, 0] + 2 * tf.cast(pair, tf.float32) - 1
    label = tf.cast(score > 0, tf.float32)
    return tf.data.Dataset.from_tensor_slices((batch, label))


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


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_sparse_gradients(name: str) -> None:
    options = {"batch_norm": True, "dropout": 0.1, "embedding_l2": 0.01}
    model = model_of(name, LISTS, **options)
    logits, found = gradients(model, inputs(LISTS, 7))
    assert logits.shape == (7,) and logits.dtype == tf.float32
    paths = [variable_path(v) for v in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    tables = {p for p in paths if p.endswith("/table")}
    assert tables == {
        "wide/table",
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
    assert mean == pytest.approx(0.2, rel=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_the_export_is_the_model(
    name: str, tmp_path: Path
) -> None:
    model = model_of(name, LISTS, hidden=(32, 16))
    spec = {"name": "adam", "learning_rate": 0.02}
    rows = 3000
    result = loop.train(
        model,
        build_optimizer(spec, 235, keras_version(model)),
        learnable(LISTS, rows, 1).batch(64),
        learnable(LISTS, 800, 2).batch(400),
        rows,
        TrainConfig(batch_size=64, epochs=5),
    )
    # A sum of what each id does alone gets no further than 0.78.
    assert result.eval_auc > 0.9
    assert result.eval_logloss < 0.45
    batch = inputs(LISTS, 20, 3)
    expected = tf.sigmoid(model(batch, training=False)).numpy()
    served = Served(model, _NoTransform(), Features(numeric=["x"]))
    folder = str(tmp_path / "m")
    export(served, folder, {})
    loaded = tf.saved_model.load(folder)
    examples = [_example(batch, row) for row in range(20)]
    found = loaded.signatures["examples"](tf.constant(examples))["ctr"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not _ops(folder) & {"ResourceApplyLion", "PyFunc", "EagerPyFunc"}
    assert _ops(folder) <= set(_registered())


class _NoTransform:
    """Examples that hold the model's inputs as they are."""

    def transform_features_layer(self) -> Any:
        return lambda raw: raw

    def raw_feature_spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "ids": tf.io.FixedLenFeature([3], tf.int64),
            "dense": tf.io.FixedLenFeature([2], tf.float32),
            LABEL: tf.io.FixedLenFeature([], tf.int64),
        }
        for f in LISTS.lists:
            spec[f"list_{f.name}"] = tf.io.VarLenFeature(tf.int64)
        return spec
