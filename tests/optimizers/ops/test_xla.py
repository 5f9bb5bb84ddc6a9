"""Lion's ops under `jit_compile=True`, judged by the NumPy reference."""

from __future__ import annotations

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import rule

from optimizers import ops
from optimizers.ops import python
from optimizers.ops.library import load

pytestmark = pytest.mark.skipif(
    load().ops is None, reason="the op library is not built"
)

ROWS, WIDTH = 12, 3
LR, BETA_1, BETA_2 = 0.125, 0.9, 0.99
DTYPES = {
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}
MODES = ["dense", "lazy", "decayed"]
IDS = [
    [3, 3, 0, 11, 3, 7, 0],
    [5],
    [4, 4, 4],
    list(range(ROWS))[::-1],
    [],
]


class Table:
    """A variable, its momentum and its counters, and what they should be."""

    def __init__(self, mode, dtype="float32", m_dtype=None, seed=0):
        self.mode = mode
        self.rng = np.random.default_rng(seed)
        self.dtype, self.m_dtype = DTYPES[dtype], DTYPES[m_dtype or dtype]
        wide = dtype == "float64"
        self.compute = np.float64 if wide else np.float32
        self.theta = self.normal(ROWS).astype(self.dtype)
        self.momentum = self.normal(ROWS).astype(self.m_dtype)
        self.last = self.rng.integers(0, 5, ROWS).astype(np.int32)
        self.var = tf.Variable(self.theta)
        self.m = tf.Variable(self.momentum)
        self.last_step = tf.Variable(self.last)

    def normal(self, rows):
        return self.rng.normal(size=(rows, WIDTH))

    def apply(self, ids, grad, rates, step, cautious=False, kernel=ops):
        if self.mode == "dense":
            kernel.resource_apply_lion(
                self.var, self.m, *rates, grad, cautious, step=step
            )
        elif self.mode == "lazy":
            kernel.resource_sparse_apply_lion(
                self.var, self.m, *rates, grad, ids, cautious, step=step
            )
        else:
            kernel.resource_sparse_apply_decayed_lion(
                self.var,
                self.m,
                self.last_step,
                step,
                *rates,
                grad,
                ids,
                cautious,
            )

    def compiled(self, cautious=False):
        @tf.function(jit_compile=True)
        def run(ids, grad, rates, step):
            self.apply(ids, grad, tf.unstack(rates), step, cautious)

        return run

    def expect(self, ids, grad, weight_decay, step, cautious):
        """Moves `theta`, `momentum` and `last` as the reference does."""
        grad = grad.astype(self.compute)
        rows, axes = np.arange(ROWS), (0, 1)
        if self.mode != "dense":
            total = np.zeros((ROWS, WIDTH), self.compute)
            np.add.at(total, ids, grad)
            rows, axes = np.unique(ids), (1,)
            grad = total[rows]
        m = self.momentum[rows].astype(self.compute)
        number = self.compute
        if self.mode == "decayed":
            idle = np.maximum(step - self.last[rows] - 1, 0)
            m *= (number(BETA_2) ** idle.astype(self.compute))[:, None]
            self.last[rows] = step
        theta, m = rule(
            self.theta[rows].astype(self.compute),
            m,
            grad,
            number(LR),
            number(BETA_1),
            number(BETA_2),
            number(weight_decay),
            axes if cautious else None,
        )
        self.theta[rows] = theta.astype(self.dtype)
        self.momentum[rows] = m.astype(self.m_dtype)

    def check(self):
        def close(actual, expected, dtype):
            eps = float(ml_dtypes.finfo(dtype).eps)
            np.testing.assert_allclose(
                actual.numpy().astype(np.float64),
                expected.astype(np.float64),
                rtol=4 * eps,
                atol=2 * eps,
            )

        close(self.var, self.theta, self.dtype)
        close(self.m, self.momentum, self.m_dtype)
        np.testing.assert_array_equal(self.last_step.numpy(), self.last)


def rates_for(dtype, weight_decay):
    wide = tf.float64 if dtype == "float64" else tf.float32
    return tf.constant([LR, BETA_1, BETA_2, weight_decay], wide)


def run_steps(table, ids, dtype, weight_decay, cautious, index=tf.int64):
    step_function = table.compiled(cautious)
    for step in (7, 8, 12):
        n = ROWS if table.mode == "dense" else len(ids)
        grad = table.normal(n).astype(table.dtype)
        step_function(
            tf.constant(ids, index),
            tf.constant(grad),
            rates_for(dtype, weight_decay),
            tf.constant(step),
        )
        table.expect(np.array(ids, int), grad, weight_decay, step, cautious)
        table.check()
        # The half precisions may round apart: start each step equal.
        table.theta, table.momentum = table.var.numpy(), table.m.numpy()


@pytest.mark.pairs
@pytest.mark.parametrize("cautious", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.25])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_compiled_ops_follow_the_reference(mode, dtype, weight_decay, cautious):
    run_steps(Table(mode, dtype), IDS[0], dtype, weight_decay, cautious)


@pytest.mark.pairs
@pytest.mark.parametrize("index", [tf.int32, tf.int64])
@pytest.mark.parametrize("ids", IDS, ids=str)
@pytest.mark.parametrize("mode", ["lazy", "decayed"])
def test_any_index_list(mode, ids, index):
    run_steps(Table(mode), ids, "float32", 0.25, False, index)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, ROWS - 1), min_size=9, max_size=9))
def test_any_index_pattern_of_one_shape(ids):
    table = Table("decayed", seed=sum(ids))
    run_steps(table, ids, "float32", 0.25, False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("m_dtype", ["bfloat16", "float16"])
def test_half_precision_momentum_under_a_float32_variable(mode, m_dtype):
    table = Table(mode, "float32", m_dtype)
    run_steps(table, IDS[0], "float32", 0.25, False)


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_momentum_is_rounded_as_by_the_kernels(mode):
    compiled, eager = (Table(mode, "float32", "bfloat16") for _ in range(2))
    ids = tf.constant(IDS[0])
    grad = tf.constant(compiled.normal(ROWS if mode == "dense" else 7))
    arguments = ids, tf.cast(grad, tf.float32), rates_for("float32", 0.25), 7
    compiled.compiled()(*arguments[:3], tf.constant(7))
    eager.apply(ids, arguments[1], tf.unstack(arguments[2]), 7)
    same = compiled.m.numpy() == eager.m.numpy()
    # XLA may fuse a product with a sum; the noise is the same.
    assert np.mean(same) > 0.9 if mode == "dense" else same.all()


def test_bfloat16_momentum_does_not_lose_small_contributions():
    var = tf.Variable(tf.zeros([4000]))
    m = tf.Variable(tf.ones([4000], tf.bfloat16))
    grad = tf.fill([4000], 1.1)

    @tf.function(jit_compile=True)
    def step():
        ops.resource_apply_lion(var, m, LR, BETA_1, BETA_2, 0.0, grad)

    for _ in range(50):
        step()
    expected = 1.1 - 0.1 * BETA_2**50
    assert abs(np.mean(m.numpy().astype(np.float32)) - expected) < 2e-3
    # Rounding to nearest would have left this, step for step.
    nearest = np.float32(BETA_2 + (1 - BETA_2) * 1.1)
    assert nearest.astype(ml_dtypes.bfloat16) == 1


def test_sign_of_zero_is_zero_and_nan_and_infinity_propagate():
    var = tf.Variable([1.0, 1.0, 1.0, 1.0, np.inf])
    m = tf.Variable([0.0, np.nan, 0.0, -0.0, 0.0])
    grad = tf.constant([0.0, 0.0, np.nan, -0.0, 1.0])

    @tf.function(jit_compile=True)
    def step(decay):
        ops.resource_apply_lion(var, m, 0.5, BETA_1, BETA_2, decay, grad)

    step(tf.constant(0.25))
    expected = [0.875, np.nan, np.nan, 0.875, -np.inf + np.inf]
    np.testing.assert_array_equal(var.numpy(), expected)
    np.testing.assert_allclose(m.numpy(), [0, np.nan, np.nan, 0, 0.01], 1e-5)


@pytest.mark.parametrize("mode", ["lazy", "decayed"])
@pytest.mark.parametrize("outside", [-1, ROWS, 2**31 - 1, 2**32 + 3, -(2**40)])
def test_ids_outside_the_table_are_refused_and_change_nothing(mode, outside):
    table = Table(mode)
    grad = table.normal(4).astype(np.float32)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=rf"`indices` must be in \[0, {ROWS}\).*indices\[1\] = {outside}",
    ):
        table.compiled()(
            tf.constant([3, outside, 8, outside], tf.int64),
            tf.constant(grad),
            rates_for("float32", 0.25),
            tf.constant(1),
        )
    table.check()


def test_functional_ops_give_new_tensors():
    rng = np.random.default_rng(0)
    var, m, grad = rng.normal(size=(3, ROWS, WIDTH)).astype(np.float32)
    rates = (LR, BETA_1, BETA_2, 0.25)

    @tf.function(jit_compile=True)
    def both(var, m, grad):
        ids = tf.range(ROWS)
        return (
            ops.lion_update(var, m, grad, *rates),
            ops.sparse_lion_update(var, m, grad, ids, *rates),
        )

    dense, sparse = both(var, m, grad)
    numbers = [np.float32(rate) for rate in rates]
    expected = rule(var, m, grad, *numbers, None)
    for result in (dense, sparse):
        np.testing.assert_allclose(result[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(result[1], expected[1], rtol=1e-5, atol=1e-7)


def test_rows_may_have_any_rank():
    for shape in [(6,), (6, 2, 3)]:
        var, m = tf.Variable(tf.ones(shape)), tf.Variable(tf.zeros(shape))
        other, other_m = tf.Variable(var), tf.Variable(m)
        grad = tf.random.stateless_normal((4, *shape[1:]), [1, 2])
        ids = tf.constant([5, 1, 5, 0])
        rates = (LR, BETA_1, BETA_2, 0.25)
        tf.function(ops.resource_sparse_apply_lion, jit_compile=True)(
            var, m, *rates, grad, ids, True
        )
        python.resource_sparse_apply_lion(
            other, other_m, *rates, grad, ids, True
        )
        np.testing.assert_allclose(var.numpy(), other.numpy(), rtol=1e-6)
        np.testing.assert_allclose(m.numpy(), other_m.numpy(), rtol=1e-6)


def test_a_schedule_compiles_nothing_anew():
    table = Table("lazy")
    run = table.compiled()
    grad = tf.ones([2, WIDTH])
    for lr in (0.1, 0.2):
        rates = tf.constant([lr, BETA_1, BETA_2, 0.0])
        run(tf.constant([1, 2]), grad, rates, tf.constant(1))
    assert run.experimental_get_tracing_count() == 1


def test_uninitialized_variable_is_an_error():
    var = tf.Variable([1.0])
    raw = load().ops
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[1])
    scalars = [tf.constant(rate) for rate in (LR, BETA_1, BETA_2, 0.0)]

    @tf.function(jit_compile=True)
    def step():
        raw.resource_apply_lion(
            var.handle,
            handle,
            *scalars,
            tf.constant(0),
            tf.constant(1),
            tf.constant([1.0]),
            T=tf.float32,
            M=tf.float32,
        )

    with pytest.raises(tf.errors.FailedPreconditionError):
        step()
    assert var.numpy() == [1.0]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("grad", [(5, WIDTH), (4,), ()]),
        ("grad", [(4, WIDTH + 1), (4,), ()]),
        ("indices", [(4, WIDTH), (4, 1), ()]),
        ("lr", [(4, WIDTH), (4,), (1,)]),
    ],
)
def test_a_wrong_shape_is_an_error_that_names_the_argument(name, shapes):
    var = tf.Variable(tf.ones([ROWS, WIDTH]))
    m = tf.Variable(tf.zeros([ROWS, WIDTH]))
    # The rank is unknown, or shape inference would raise first.
    unknown = [tf.TensorSpec(None, d) for d in (tf.float32, tf.int32)]

    @tf.function(jit_compile=True, input_signature=[*unknown, unknown[0]])
    def step(grad, ids, lr):
        rates = (lr, BETA_1, BETA_2, 0.0)
        ops.resource_sparse_apply_lion(var, m, *rates, grad, ids)

    grad, ids, lr = shapes
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{name} must"):
        step(tf.ones(grad), tf.zeros(ids, tf.int32), tf.ones(lr))
    assert (var.numpy() == 1).all()


@pytest.mark.ci
def test_the_library_may_be_loaded_after_an_xla_compilation():
    program = """
import tensorflow as tf
print(tf.function(lambda x: x + 1, jit_compile=True)(tf.constant(1.0)))
from optimizers import ops
var, m = tf.Variable([1.0]), tf.Variable([0.0])
step = tf.function(ops.resource_apply_lion, jit_compile=True)
step(var, m, 0.5, 0.9, 0.99, 0.0, tf.constant([1.0]))
print(var.numpy())
from optimizers.ops.library import load
assert load().ops is not None
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "[0.5]" in result.stdout, result.stderr[-2000:]
    assert result.returncode == 0, result.stderr[-2000:]
