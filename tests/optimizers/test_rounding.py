"""Rounding at random: the mean is right, whatever rests, on every kernel."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import DTYPES, FLOAT16, ReferenceLion, at_random, noise
from tables import needs_library

from optimizers import Lion
from optimizers.ops import custom_op, python, xla

ROWS, DIM = 64, 64
KINDS = {**DTYPES, "float16": FLOAT16}
KERNELS = [
    "python",
    pytest.param("custom_op", marks=needs_library),
    pytest.param("xla", marks=needs_library),
]
kernels = pytest.mark.parametrize("kernel", KERNELS)
modes = pytest.mark.parametrize("sparse", ["lazy", "decayed", "dense"])


def trained(kernel, sparse, gradient, steps, start, dtype, rate, **arguments):
    """A table and its momentum after `steps` equal gradients of all rows."""
    table = keras.Variable(np.full((ROWS, DIM), start), dtype=dtype)
    lion = Lion(rate, kernel=kernel, sparse=sparse, **arguments)
    lion.build([table])
    values = tf.fill([ROWS, DIM], tf.constant(gradient, dtype))

    @tf.function
    def run(count):
        for _ in tf.range(count):
            slices = tf.IndexedSlices(values, tf.range(ROWS), [ROWS, DIM])
            lion.apply([slices], [table])

    run(tf.constant(steps))
    return (
        np.asarray(table.numpy(), np.float64),
        np.asarray(lion._momentums[0].numpy(), np.float64),
    )


@pytest.mark.pairs
@kernels
@modes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rate", [0.0, 1e-8, 1e-4])
def test_a_momentum_reaches_a_constant_gradient_while_weights_rest(
    kernel, sparse, dtype, rate
):
    _, m = trained(
        *(kernel, sparse, 1.0, 600, 1.0, dtype, rate), momentum_dtype="bfloat16"
    )
    # Rounding to nearest ends at 0.805, noise that repeats at 0.656.
    np.testing.assert_allclose(m.mean(), 1 - 0.99**600, atol=2e-3)


@pytest.mark.pairs
@kernels
@modes
@pytest.mark.parametrize(
    ("dtype", "rate"), [("bfloat16", 1e-4), ("float16", 1e-5)]
)
def test_half_precision_weights_move_by_less_than_their_last_place(
    kernel, sparse, dtype, rate
):
    arguments = (kernel, sparse, 1.0, 200, 0.3, dtype, rate)
    start = float(KINDS[dtype].type(0.3))
    moved = trained(*arguments, stochastic_rounding=True)[0].mean() - start
    np.testing.assert_allclose(moved, -200 * rate, rtol=0.05)
    nearest = trained(*arguments)[0].mean() - start
    assert abs(nearest) < 0.1 * 200 * rate


@kernels
@modes
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_kernel_rounds_as_the_reference_does(
    kernel, sparse, dtype, cautious
):
    rng = np.random.default_rng(0)
    start = (rng.normal(size=(ROWS, DIM)) * 1e-3).astype(KINDS[dtype])
    arguments = {
        "sparse": sparse,
        "cautious": cautious,
        "weight_decay": 0.1,
        "momentum_dtype": "bfloat16",
        "stochastic_rounding": True,
    }
    table = keras.Variable(start, dtype=dtype)
    other = keras.Variable(start, dtype=dtype)
    lion = Lion(1e-4, kernel=kernel, **arguments)
    lion.build([other, table])
    reference = ReferenceLion(start.copy(), 1e-4, seed=1, **arguments)
    for _ in range(5):
        ids = rng.integers(0, ROWS, 40)
        values = rng.normal(size=(40, DIM)).astype(KINDS[dtype])
        slices = tf.IndexedSlices(values, ids, [ROWS, DIM])
        lion.apply([slices, slices], [other, table])
        reference.step((values, ids))
    # The order of sums, and XLA's fused products, may differ in the last bit.
    for actual, expected in (
        (table, reference.theta),
        (lion._momentums[1], reference.m),
    ):
        assert np.mean(actual.numpy() == expected) > 0.999
    assert np.mean(other.numpy() == table.numpy()) < 0.9


@kernels
def test_a_resumed_training_rounds_as_one_that_never_stopped(kernel):
    def steps(table, lion, count):
        for _ in range(count):
            lion.apply([tf.ones([ROWS, DIM], "bfloat16")], [table])

    def fresh():
        table = keras.Variable(np.ones((ROWS, DIM)), dtype="bfloat16")
        lion = Lion(1e-4, kernel=kernel, stochastic_rounding=True)
        lion.build([table])
        return table, lion

    whole, first, second = fresh(), fresh(), fresh()
    steps(*whole, 7)
    steps(*first, 4)
    second[0].assign(first[0])
    for new, old in zip(second[1].variables, first[1].variables, strict=True):
        new.assign(old)
    steps(*second, 3)
    np.testing.assert_array_equal(whole[0].numpy(), second[0].numpy())
    np.testing.assert_array_equal(
        whole[1]._momentums[0].numpy(), second[1]._momentums[0].numpy()
    )


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "ops",
    [
        python,
        pytest.param(custom_op, marks=needs_library),
        pytest.param(xla, marks=needs_library),
    ],
)
def test_numbers_that_fit_stay_and_others_have_the_right_mean(ops, kind):
    tiny, most = (2.0**-24, 65504.0) if kind == "float16" else (2.0**-120, 3e38)
    finite = [0.0, -0.0, 1.0, -1.5, tiny, 3 * tiny, 2.0**-14, most]
    var = tf.constant([*finite, np.nan], kind)
    grad = tf.constant([*finite[:-1], np.inf, -np.inf], tf.bfloat16)
    for step in range(3):
        new, new_m = ops.lion_update(
            *(var, tf.zeros_like(grad), tf.cast(grad, tf.float32)),
            *(0.0, 0.9, 0.0, 0.0),
            step=step,
            stochastic=True,
        )
        np.testing.assert_array_equal(new.numpy()[:-2], var.numpy()[:-2])
        assert np.isnan(new.numpy()[-1])
        np.testing.assert_array_equal(new_m.numpy(), grad.numpy())
    # A weight of 0 takes the rate as it is: here a third of a last place more.
    for exact in (1 / 3, 4 / 3 * 2.0**-10, 7.3 * tiny):
        zeros = tf.zeros([2**16], kind)
        new, _ = ops.lion_update(
            *(zeros, zeros, zeros - 1, exact, 0.9, 0.99, 0.0),
            step=9,
            stochastic=True,
        )
        mean = np.asarray(new.numpy(), np.float64).mean()
        np.testing.assert_allclose(mean, exact, rtol=3e-3)


def test_the_references_rounding_is_between_the_two_neighbours():
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for kind in (DTYPES["bfloat16"], FLOAT16):
        down, up = at_random(x, kind, 0.0), at_random(x, kind, 1 - 2.0**-16)
        assert (np.abs(np.float32(down)) <= np.abs(x)).all()
        assert (np.abs(np.float32(up)) >= np.abs(x)).all()
        nearest = x.astype(kind)
        assert ((nearest == down) | (nearest == up)).all()


def test_noise_is_uniform_over_steps_elements_and_seeds():
    steps = np.arange(1, 4097)[:, None]
    bits = noise(3, steps, np.arange(64)[None])
    for part in (bits & 0xFFFF, bits >> 16):
        chance = part / 2**16
        deviation = 1 / np.sqrt(12)
        for axis, size in ((0, 4096), (1, 64)):
            error = (chance.mean(axis) - 0.5) / (deviation / np.sqrt(size))
            assert np.abs(error).max() < 5
            assert 0.8 < error.std() < 1.2
        flat = chance - 0.5
        for one, other in (
            (flat[1:], flat[:-1]),
            (flat[:, 1:], flat[:, :-1]),
            (flat, noise(4, steps, np.arange(64)[None]) / 2**32 - 0.5),
        ):
            correlation = np.mean(one * other) * 12
            assert abs(correlation) < 5 / np.sqrt(one.size)
    assert len(np.unique(bits)) > 0.999 * bits.size
