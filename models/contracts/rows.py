"""Small layouts, and random rows of them, to try a model with."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from models.preprocessing.input_layout import (
    IdFeature,
    Layout,
    SequenceInput,
)

ALL = Layout(
    single=(
        IdFeature("a", 12, 4),
        IdFeature("b", 12, 2),
        IdFeature("a_x_b", 40, 0),
    ),
    lists=(
        IdFeature("tags", 9, 4, pool="attention"),
        IdFeature("seen", 12, 4, table="a"),
    ),
    dense=("x", "y"),
    sequences=(SequenceInput(("seen",), ("a",), (), 2),),
)
PLAIN = Layout(ALL.single[:2], (), ("x",))
BARE = Layout(ALL.single[:2], (), ())


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
        if f.weighted:
            found[f"weights_{f.name}"] = tf.RaggedTensor.from_row_lengths(
                tf.constant(rng.random(lengths.sum()), tf.float32), lengths
            )
    return found


def learnable(layout: Layout, count: int, seed: int) -> Any:
    """A dataset whose click depends on x, and on a and b together."""
    batch = inputs(layout, count, seed)
    pair = (batch["ids"][:, 0] + batch["ids"][:, 1]) % 2
    score = batch["dense"][:, 0] + 2 * tf.cast(pair, tf.float32) - 1
    label = tf.cast(score > 0, tf.float32)
    return tf.data.Dataset.from_tensor_slices((batch, label))
