"""The TensorFlow-level functions, used without Keras."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from optimizers import ops

LR, BETA_1, BETA_2, DECAY = 0.1, 0.9, 0.99, 0.5
RULE = (LR, BETA_1, BETA_2, DECAY)


def test_lion_update_is_the_papers_rule_and_touches_no_state():
    var, m = tf.constant([1.0, -2.0, 0.0]), tf.constant([0.5, 0.0, 0.0])
    grad = tf.constant([-1.0, -1.0, 0.0])
    new_var, new_m = ops.lion_update(var, m, grad, *RULE)
    np.testing.assert_allclose(new_var, [0.85, -1.8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(new_m, [0.485, -0.01, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(var, [1.0, -2.0, 0.0])


def test_resource_ops_agree_on_a_gradient_of_every_row():
    rng = np.random.default_rng(0)
    start, grad = rng.normal(size=(2, 6, 3)).astype(np.float32)
    results = []
    for apply in (
        lambda v, m: ops.resource_apply_lion(v, m, *RULE, grad),
        lambda v, m: ops.resource_sparse_apply_lion(
            v, m, *RULE, grad[::-1], tf.range(5, -1, -1)
        ),
        lambda v, m: ops.resource_sparse_apply_decayed_lion(
            v, m, tf.Variable([0] * 6), 1, *RULE, grad, tf.range(6)
        ),
    ):
        var, m = tf.Variable(start), tf.Variable(tf.zeros((6, 3)))
        apply(var, m)
        results.append((var.numpy(), m.numpy()))
    for var, m in results[1:]:
        np.testing.assert_array_equal(var, results[0][0])
        np.testing.assert_array_equal(m, results[0][1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precisions_are_computed_in_float32(dtype):
    var, m = tf.Variable(tf.ones([4], dtype)), tf.Variable(tf.zeros([4]))
    grad = tf.fill([4], tf.constant(1e-3, dtype))
    ops.resource_apply_lion(var, m, *RULE, grad)
    expected = tf.constant(1 - LR * (1 + DECAY), dtype)
    np.testing.assert_array_equal(var.numpy(), tf.fill([4], expected).numpy())
    np.testing.assert_allclose(
        m.numpy(), 0.01 * tf.cast(grad, tf.float32).numpy(), rtol=1e-5
    )


def test_scalars_may_be_tensors_so_that_nothing_is_retraced():
    var, m = tf.Variable([0.0]), tf.Variable([0.0])
    traces = []

    @tf.function
    def step(lr, weight_decay):
        traces.append(1)
        ops.resource_apply_lion(
            var, m, lr, BETA_1, BETA_2, weight_decay, tf.constant([1.0])
        )

    step(tf.constant(0.5), tf.constant(0.0))
    step(tf.constant(0.25), tf.constant(0.5))
    np.testing.assert_allclose(var.numpy(), [-0.5 - 0.25 * (1 - 0.25)])
    assert len(traces) == 1
