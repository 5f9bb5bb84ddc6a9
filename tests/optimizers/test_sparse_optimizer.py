"""Sparse gradients through clipping, loss scaling and accumulation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from tables import MODES, SHAPE, built, gradients, slices, table

from optimizers import Lion


def momentum_after(gradient, **arguments):
    """The summed and clipped gradient, read back from the momentum."""
    variable = table()
    lion = built([variable], beta_2=0.0, **arguments)
    lion.apply([gradient], [variable])
    return lion._momentums[0].numpy()


@pytest.mark.parametrize("sparse", MODES)
def test_clipnorm_takes_the_norm_of_the_summed_rows(sparse):
    gradient = slices(np.ones((3, 4)), [1, 1, 2])
    total = np.zeros(SHAPE, np.float32)
    total[1], total[2] = 2, 1
    expected = total / np.linalg.norm(total)
    actual = momentum_after(gradient, sparse=sparse, clipnorm=1.0)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("sparse", MODES)
def test_clipvalue_clips_the_summed_rows(sparse):
    gradient = slices([[1.0] * 4, [-0.9] * 4, [3.0] * 4], [1, 1, 2])
    actual = momentum_after(gradient, sparse=sparse, clipvalue=0.5)
    np.testing.assert_allclose(actual[1], [0.1] * 4, rtol=1e-5)
    np.testing.assert_allclose(actual[2], [0.5] * 4)


@pytest.mark.parametrize("sparse", MODES)
def test_global_clipnorm_spans_sparse_and_dense_gradients(sparse):
    rows, weights = table(), keras.Variable(np.zeros(2, np.float32))
    lion = built(
        [rows, weights], sparse=sparse, beta_2=0.0, global_clipnorm=1.0
    )
    lion.apply(
        [slices(np.ones((2, 4)), [1, 1]), tf.constant([3.0, 0.0])],
        [rows, weights],
    )
    np.testing.assert_allclose(
        lion._momentums[0].numpy()[1], np.full(4, 2 / 5), rtol=1e-6
    )
    np.testing.assert_allclose(
        lion._momentums[1].numpy(), [3 / 5, 0], rtol=1e-6
    )


@pytest.mark.parametrize("limit", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_clipping_keeps_rows_outside_the_batch_untouched(limit):
    variable = table()
    lion = built([variable], weight_decay=0.5, **{limit: 0.1})
    lion.apply([slices(np.ones((2, 4)), [1, 1])], [variable])
    changed = (variable.numpy() != 0.5).any(axis=1)
    assert changed.tolist() == [row == 1 for row in range(SHAPE[0])]


@pytest.mark.parametrize("sparse", MODES)
def test_loss_scale_is_divided_out_of_sparse_gradients(sparse):
    gradient = slices([[2.0] * 4, [6.0] * 4], [1, 1])
    actual = momentum_after(gradient, sparse=sparse, loss_scale_factor=4.0)
    np.testing.assert_allclose(actual[1], [2.0] * 4)


@pytest.mark.parametrize("limits", [{}, {"global_clipnorm": 0.5}], ids=str)
@pytest.mark.parametrize("sparse", MODES)
def test_accumulated_steps_equal_one_step_on_their_mean(sparse, limits):
    arguments = {"sparse": sparse, "weight_decay": 0.1, **limits}
    parts, whole = table(), table()
    one = built([whole], **arguments)
    many = built([parts], gradient_accumulation_steps=3, **arguments)
    batches = list(gradients(12))
    for group in (batches[i : i + 3] for i in range(0, 12, 3)):
        values = tf.concat([g.values for g in group], 0) / 3
        indices = tf.concat([g.indices for g in group], 0)
        one.apply([tf.IndexedSlices(values, indices, SHAPE)], [whole])
        for gradient in group:
            many.apply([gradient], [parts])
        np.testing.assert_allclose(parts.numpy(), whole.numpy(), rtol=1e-5)
        np.testing.assert_allclose(
            many._momentums[0].numpy(), one._momentums[0].numpy(), atol=1e-7
        )
        assert not many._accumulated_gradients[0].numpy().any()
    if sparse == "decayed":
        np.testing.assert_array_equal(
            many._last_steps[0].numpy(), one._last_steps[0].numpy()
        )


def test_accumulation_mixes_dense_and_sparse_gradients_of_one_variable():
    parts, whole = table(), table()
    one, many = built([whole]), built([parts], gradient_accumulation_steps=2)
    sparse = next(gradients(1))
    dense = tf.ones(SHAPE)
    for pair in ([sparse, dense], [dense, sparse]):
        for gradient in pair:
            many.apply([gradient], [parts])
        one.apply([(tf.convert_to_tensor(sparse) + dense) / 2], [whole])
    np.testing.assert_allclose(parts.numpy(), whole.numpy(), rtol=1e-6)


def test_accumulation_works_compiled_and_for_scalars():
    variables = [table(), keras.Variable(1.0, name="bias")]
    lion = built(variables, gradient_accumulation_steps=2)

    @tf.function
    def step():
        lion.apply([slices(np.ones((1, 4)), [3]), tf.constant(1.0)], variables)

    step()
    assert variables[0].numpy()[3, 0] == 0.5
    step()
    np.testing.assert_allclose(variables[0].numpy()[3], [0.49] * 4)
    assert variables[1].numpy() == pytest.approx(0.99)


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", ["auto", "python"])
@pytest.mark.parametrize("sparse", ["lazy", "decayed"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"clipnorm": 0.5},
        {"global_clipnorm": 0.5},
        {"clipvalue": 0.1},
        {"gradient_accumulation_steps": 2, "global_clipnorm": 0.5},
    ],
)
def test_a_step_compiled_by_xla_does_the_same(arguments, sparse, kernel):
    # XLA has no shapes that depend on how many rows are distinct.
    plain, compiled = (
        trained(Lion(0.1, sparse=sparse, kernel=kernel, **arguments), jit)
        for jit in (False, True)
    )
    for expected, actual in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.pairs
@pytest.mark.pairs
@pytest.mark.parametrize("kernel", ["auto", "python"])
@pytest.mark.parametrize("sparse", MODES)
@pytest.mark.parametrize(
    ("dtype", "arguments"),
    [
        ("float32", {"cautious": True, "weight_decay": 0.1}),
        ("float32", {"global_clipnorm": 0.5, "momentum_dtype": "bfloat16"}),
        ("bfloat16", {"stochastic_rounding": True}),
        ("float64", {"clipvalue": 0.1}),
    ],
    ids=str,
)
def test_micro_batches_of_any_sizes_lose_no_row_under_xla(
    dtype, arguments, sparse, kernel
):
    plain, compiled = (
        accumulated(jit, dtype, sparse=sparse, kernel=kernel, **arguments)
        for jit in (False, True)
    )
    for expected, actual in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol=1e-2 if dtype == "bfloat16" else 1e-5
        )


def accumulated(jit, dtype, **arguments):
    """All state after micro-batches of several sizes, two in an update."""
    rng = np.random.default_rng(1)
    variable = keras.Variable(rng.normal(size=SHAPE), dtype=dtype)
    lion = Lion(0.1, gradient_accumulation_steps=2, **arguments)
    lion.build([variable])

    @tf.function(jit_compile=jit)
    def step(values, ids):
        lion.apply([tf.IndexedSlices(values, ids, SHAPE)], [variable])

    for size in (7, 1, 1, 7, 1, 1, 7, 1):  # each is traced
        # Quarters, whose sums are exact in any order.
        values = rng.integers(-8, 9, (size, SHAPE[1])) / 4
        ids = rng.integers(0, SHAPE[0], size)
        step(tf.constant(values, dtype), tf.constant(ids))
    state = [variable, *lion.variables]
    return [np.asarray(v.numpy(), np.float64) for v in state]


@pytest.mark.parametrize("sparse", MODES)
def test_fit_moves_all_rows_of_a_last_short_micro_batch(sparse):
    ids = keras.Input((1,), dtype="int32")
    embedding = keras.layers.Embedding(400, 2)
    flat = keras.layers.Flatten()(embedding(ids))
    model = keras.Model(ids, keras.layers.Dense(1)(flat))
    optimizer = Lion(0.01, gradient_accumulation_steps=2, sparse=sparse)
    model.compile(optimizer, "mse", jit_compile=True)
    before = embedding.embeddings.numpy()
    rows = np.arange(130)[:, None]
    model.fit(rows, np.ones(130), batch_size=128, shuffle=False, verbose=0)
    moved = (embedding.embeddings.numpy() != before).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), np.arange(130))


def trained(optimizer, jit):
    """A table and a bias after six steps of `optimizer`."""
    weights = [
        keras.Variable(np.ones((10, 3), "float32")),
        keras.Variable(np.ones(4, "float32")),
    ]
    optimizer.build(weights)

    @tf.function(jit_compile=jit)
    def step(ids):
        table, bias = (w.value for w in weights)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((tf.gather(table, ids) - 0.5) ** 2)
            loss += tf.reduce_sum(bias**2)
        optimizer.apply(tape.gradient(loss, [table, bias]), weights)

    for number in range(6):
        step(tf.constant([1, 1, 5, 7 + number % 2]))
    return [w.numpy() for w in weights]
