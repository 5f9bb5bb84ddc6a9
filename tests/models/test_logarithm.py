"""The logarithm of a number does not depend on the rows beside it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing.logarithm import signed_log1p


@pytest.mark.parametrize("width", [1, 3, 9])
def test_a_number_has_the_same_bits_in_every_batch(width: int) -> None:
    # In TensorFlow's loop for what a whole vector leaves over, the log1p of
    # 20, 21, 23 and of 20260418 differs in the last bit.
    values = np.r_[0:64, -20.0, 20260401:20260429, 1e30].astype("float32")
    compiled = tf.function(
        signed_log1p,
        input_signature=[tf.TensorSpec([None, width], tf.float32)],
    )
    rows = np.repeat(values[:, None], width, 1)
    together = compiled(rows).numpy()
    for size in (1, 2, 3, 5, 15, 17):
        apart = [
            compiled(rows[at : at + size]).numpy()
            for at in range(0, len(rows), size)
        ]
        np.testing.assert_array_equal(np.concatenate(apart), together)
    expected = np.sign(values) * np.log1p(np.abs(values.astype("float64")))
    np.testing.assert_allclose(together[:, 0], expected, rtol=2e-7)
