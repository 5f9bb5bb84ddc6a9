"""Interactions and pooling against NumPy, written from the papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.architectures.deepfm import second_order
from models.architectures.registry import build_model
from models.config.training import ModelConfig
from models.layers.embedding import FusedTable, attention_pool, mean_pool
from models.preprocessing.input_layout import IdFeature, Layout
from optimizers.groups import variable_path

ROWS = 6
LAYOUT = Layout(
    single=(IdFeature("a", 5, 4), IdFeature("b", 6, 2), IdFeature("c", 4, 4)),
    lists=(),
    dense=("x", "y"),
)
RNG = np.random.default_rng(1)
IDS = RNG.integers(0, [5, 6, 4], (ROWS, 3))
NUMBERS = RNG.normal(size=(ROWS, 2)).astype(np.float32)
Weights = dict[str, Any]


def computed(name: str, **options: Any) -> tuple[Any, Weights]:
    """Logits of a model with random weights, and these."""
    model = build_model(
        LAYOUT, ModelConfig(name=name, hidden=(), **options), 0.3
    )
    rng = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    batch = {"ids": tf.constant(IDS), "dense": tf.constant(NUMBERS)}
    weights = {variable_path(v): v.numpy() for v in model.trainable_variables}
    return model(batch).numpy(), weights


def embedded(w: Weights) -> tuple[Any, Any, Any]:
    """Embeddings of a, b and c."""
    a, b, c = IDS.T
    four = w["deep/embedding_4/table"]
    return four[a], w["deep/embedding_2/table"][b], four[5 + c]


def out(x: Any, w: Weights) -> Any:
    return (x @ w["deep/out/kernel"] + w["deep/out/bias"])[:, 0]


@pytest.mark.parametrize("name", ["dcn_v2", "tfrs_dcn"])
@pytest.mark.parametrize("rank", [None, 3])
def test_a_cross_layer(name: str, rank: int | None) -> None:
    found, w = computed(name, cross_layers=2, projection_dim=rank)
    a, b, c = embedded(w)
    x = x0 = np.concatenate([b, a, c, NUMBERS], 1)
    for layer in range(2):
        its = [k for k in w if k.startswith(f"deep/cross_{layer}/")]
        (bias,) = (w[k] for k in its if k.endswith("bias"))
        kernels = [w[k] for k in its if k.endswith("kernel")]
        kernels.sort(key=lambda k: k.shape != (12, rank))
        matrix = kernels[0] if rank is None else kernels[0] @ kernels[1]
        x = x0 * (x @ matrix + bias) + x
    np.testing.assert_allclose(found, out(x, w), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["dlrm", "tfrs_dlrm"])
def test_dot_products_of_all_pairs(name: str) -> None:
    found, w = computed(name, bottom=(3,))
    a, b, c = embedded(w)
    x = NUMBERS
    for layer in ("deep/bottom_0", "deep/bottom_1"):
        x = np.maximum(x @ w[f"{layer}/kernel"] + w[f"{layer}/bias"], 0)
    fields = [x, b @ w["deep/project_2/kernel"], a, c]
    pairs = [(fields[i] * fields[j]).sum(1) for i in range(4) for j in range(i)]
    expected = out(np.concatenate([x, np.stack(pairs, 1)], 1), w)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_factorization_machine() -> None:
    found, w = computed("deepfm")
    a, b, c = embedded(w)
    wide = w["wide/table"][:, 0]
    first = wide[IDS + [0, 5, 11]].sum(1) + NUMBERS @ w["deep/weight"]
    vectors = NUMBERS[:, :, None] * w["deep/vector"]
    fields = [b @ w["deep/project_2/kernel"], a, c, *vectors.swapaxes(0, 1)]
    second = sum(
        (fields[i] * fields[j]).sum(1) for i in range(5) for j in range(i)
    )
    deep = out(np.concatenate([b, a, c, NUMBERS], 1), w)
    np.testing.assert_allclose(found, first + second + deep, rtol=1e-3)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_compressed_interaction_network(rank: int | None) -> None:
    found, w = computed("xdeepfm", maps=(3, 2), rank=rank)
    a, b, c = embedded(w)
    wide = w["wide/table"][:, 0]
    vectors = NUMBERS[:, :, None] * w["deep/vector"]
    fields = [b @ w["deep/project_2/kernel"], a, c, *vectors.swapaxes(0, 1)]
    x = fields
    sums = []
    for layer, rows in enumerate((3, 2)):
        if rank is None:
            kernel = w[f"deep/map_{layer}_kernel"]
            matrix = kernel.reshape(len(x), 5, rows)
        else:
            u, v = (w[f"deep/map_{layer}_{name}"] for name in "uv")
            pairs = u.reshape(-1, rows, rank), v.reshape(-1, rows, rank)
            matrix = np.einsum("ihr,jhr->ijh", *pairs)
        x = [
            sum(
                matrix[i, j, h] * x[i] * fields[j]
                for i in range(len(x))
                for j in range(5)
            )
            for h in range(rows)
        ]
        sums += [one.sum(1) for one in x]
    logit = np.stack(sums, 1) @ w["deep/linear/kernel"][:, 0]
    logit += out(np.concatenate([b, a, c, NUMBERS], 1), w)
    logit += wide[IDS + [0, 5, 11]].sum(1)
    np.testing.assert_allclose(found, logit, rtol=1e-3, atol=1e-4)


def test_the_second_order_is_exact_in_half_precision() -> None:
    fields = tf.cast(tf.constant([[[16.0], [0.125]]]), tf.bfloat16)
    assert second_order(fields).numpy() == [2.0]


LENGTHS = [0, 3, 1, 0, 2]
VALUES = RNG.normal(size=(6, 4)).astype(np.float32)
RAGGED = tf.RaggedTensor.from_row_lengths(tf.range(6), LENGTHS)


def by_row() -> list[Any]:
    return np.split(VALUES, np.cumsum(LENGTHS)[:-1])


def test_the_mean_of_a_list() -> None:
    found = mean_pool(tf.constant(VALUES), RAGGED).numpy()
    expected = [v.mean(0) if len(v) else np.zeros(4) for v in by_row()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_attention_over_a_list(scale: float) -> None:
    query = np.array([0.5, -1, 2, 0.1], np.float32) * np.float32(scale)
    found = attention_pool(tf.constant(VALUES), RAGGED, tf.constant(query))
    expected = []
    for row in by_row():
        if not len(row):
            expected.append(np.zeros(4))
            continue
        scores = row @ query / 2
        weights = np.exp(scores - scores.max())
        expected.append(weights / weights.sum() @ row)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_learns_and_no_empty_list_spoils_it() -> None:
    query = tf.Variable(tf.zeros(4))
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros(0, tf.int32), [0, 0])
    with tf.GradientTape(persistent=True) as tape:
        some = tf.reduce_sum(attention_pool(VALUES, RAGGED, query)[:, 0])
        none = attention_pool(tf.zeros([0, 4]), empty, query)
    assert np.abs(tape.gradient(some, query)).max() > 0.01
    np.testing.assert_array_equal(none, np.zeros((2, 4)))
    assert not np.isnan(tf.convert_to_tensor(tape.gradient(none, query))).any()


def test_features_of_one_table_share_rows_and_gradients() -> None:
    layout = Layout(
        single=(IdFeature("item", 4, 2), IdFeature("other", 3, 2)),
        lists=(IdFeature("seen", 4, 2, table="item"),),
        dense=(),
    )
    table = FusedTable(layout, layout.ids, 2, l2=0.5, stddev=1.0)
    table.build()
    assert table.table.shape == (7, 2)
    batch = {
        "ids": tf.constant([[2, 1], [0, 0]], tf.int64),
        "list_seen": tf.ragged.constant([[2], [3, 1]], dtype=tf.int64),
    }
    with tf.GradientTape() as tape:
        found = table(batch, training=True)
    w = table.table.numpy()
    np.testing.assert_allclose(found[:, 0], w[[2, 0]])
    np.testing.assert_allclose(found[:, 1], w[[5, 4]])
    np.testing.assert_allclose(found[0, 2], w[2])
    np.testing.assert_allclose(found[1, 2], w[[3, 1]].mean(0), rtol=1e-6)
    # The penalty is that of the rows read, over the rows of the batch. A list
    # counts as one value does: histories would hold items 50 times as close.
    (penalty,) = table.losses
    squares = (w**2).sum(1)
    read = squares[[2, 5, 0, 4, 2]].sum() + squares[[3, 1]].mean()
    np.testing.assert_allclose(penalty, 0.5 * read / 2, rtol=1e-5)
    gradient = tape.gradient(penalty, table.table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    dense = tf.convert_to_tensor(gradient).numpy()
    np.testing.assert_allclose(dense[2], 2 * 0.5 * w[2], rtol=1e-5)
    np.testing.assert_array_equal(dense[6], [0, 0])
