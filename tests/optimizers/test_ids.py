"""Ids outside of the table: one error on every path that can raise one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tables import needs_library

from optimizers import Lion
from optimizers.ops import build
from optimizers.tf_keras import Lion as Lion2

ROWS = 5
ARGUMENTS = [
    {},
    {"sparse": "decayed"},
    {"sparse": "dense"},
    {"clipnorm": 1.0},
    {"gradient_accumulation_steps": 2},
]


def step_of(kernel, jit, arguments, keras_2=False):
    start = np.ones((ROWS, 2), np.float32)
    if keras_2:
        table = tf.Variable(start)
        lion = Lion2(0.1, kernel=kernel, jit_compile=False, **arguments)
    else:
        table = keras.Variable(start)
        lion = Lion(0.1, kernel=kernel, **arguments)
    lion.build([table])

    @tf.function(jit_compile=jit)
    def step(ids):
        slices = tf.IndexedSlices(tf.ones((2, 2)), ids, tf.constant([ROWS, 2]))
        if keras_2:
            lion.apply_gradients([(slices, table)])
        else:
            lion.apply([slices], [table])

    return step, table


@pytest.mark.pairs
@pytest.mark.pairs
@pytest.mark.parametrize("outside", [-1, ROWS, 2**31 - 1])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize(
    ("kernel", "jit"),
    [
        ("python", None),
        pytest.param("custom_op", None, marks=needs_library),
        pytest.param("xla", None, marks=needs_library),
        pytest.param("custom_op", True, marks=needs_library),
        pytest.param("python", True, marks=needs_library),
    ],
)
def test_an_id_outside_is_refused_by_name_and_changes_nothing(
    kernel, jit, arguments, outside
):
    step, table = step_of(kernel, jit, arguments)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        step(tf.constant([1, outside]))
    assert f"`indices` must be in [0, {ROWS})" in str(error.value)
    assert str(outside) in str(error.value)
    np.testing.assert_array_equal(table.numpy(), 1)
    step(tf.constant([1, ROWS - 1]))


@pytest.mark.parametrize("arguments", ARGUMENTS[:4], ids=str)
@pytest.mark.parametrize("jit", [None, pytest.param(True, marks=needs_library)])
def test_keras_2_refuses_it_as_well(jit, arguments):
    step, table = step_of("auto", jit, arguments, keras_2=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`indices`"):
        step(tf.constant([-1, 1]))
    np.testing.assert_array_equal(table.numpy(), 1)


def test_tf_keras_is_the_keras_2_of_this_test():
    assert isinstance(Lion2(0.1), tf_keras.optimizers.Optimizer)


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_without_the_library_xla_leaves_such_rows_out(arguments, monkeypatch):
    monkeypatch.setattr(build, "find", lambda: (None, "left aside"))
    step, table = step_of("python", True, arguments)
    for _ in range(2):
        step(tf.constant([1, ROWS]))
    moved = (table.numpy() != 1).any(axis=1)
    assert moved[1] and not moved[[0, 2, 3]].any()
