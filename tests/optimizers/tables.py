"""Small tables and sparse gradients that these tests share."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from optimizers import Lion
from optimizers.ops import build

needs_library = pytest.mark.skipif(
    build.find()[0] is None, reason=f"no op library: {build.find()[1]}"
)
kernels = pytest.mark.parametrize(
    "kernel", ["python", pytest.param("custom_op", marks=needs_library)]
)
MODES = ["lazy", "decayed", "dense"]
SHAPE = (10, 4)


def slices(values, indices, shape=SHAPE):
    return tf.IndexedSlices(
        tf.constant(values, tf.float32),
        tf.constant(indices, tf.int64),
        tf.constant(shape, tf.int64),
    )


def table(value=0.5, name="table"):
    return keras.Variable(np.full(SHAPE, value, np.float32), name=name)


def built(variables, **arguments):
    optimizer = Lion(0.01, **arguments)
    optimizer.build(variables)
    return optimizer


def gradients(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        indices = rng.integers(0, SHAPE[0], size=5)
        yield slices(rng.normal(size=(5, SHAPE[1])), indices)
