"""Inputs to try a model with, before there is data."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from models.preprocessing.input_layout import (
    DENSE,
    IDS,
    LISTS,
    NUMBERS,
    SHALLOW_IDS,
    WEIGHTS,
    Layout,
)


def empty_rows(layout: Layout, count: int) -> dict[str, Any]:
    """Inputs with all ids 0, all numbers 0, all lists empty."""
    inputs: dict[str, Any] = {}
    if layout.single:
        inputs[IDS] = tf.zeros([count, len(layout.single)], tf.int64)
    if layout.shallow:
        inputs[SHALLOW_IDS] = tf.zeros([count, len(layout.shallow)], tf.int64)
    if layout.dense:
        inputs[DENSE] = tf.zeros([count, len(layout.dense)])
    for f in layout.lists:
        ids = tf.RaggedTensor.from_row_lengths(
            np.zeros(0, np.int64), np.zeros(count, np.int64)
        )
        inputs[LISTS + f.name] = ids
        if f.weighted:
            inputs[WEIGHTS + f.name] = tf.cast(ids, tf.float32)
    for sequence in layout.sequences:
        for name in sequence.numbers:
            inputs[NUMBERS + name] = tf.RaggedTensor.from_row_lengths(
                np.zeros(0, np.float32), np.zeros(count, np.int64)
            )
    return inputs
