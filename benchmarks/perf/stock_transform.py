"""Plain TFT for stock Transform, as in its guide.

The same features as configs/criteo.yaml's: log and z-score of the 13 numbers,
a vocabulary for each of the 26 categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(
    inputs: Mapping[str, Any], custom_config: Mapping[str, Any]
) -> dict[str, Any]:
    """TFX Transform's entry point.

    custom_config: {"numeric": names, "categorical": name -> arguments of
    `tft.compute_and_apply_vocabulary`}.
    """
    outputs = {"label": _dense(inputs["label"], 0)}
    for name in custom_config["numeric"]:
        value = _dense(inputs[name], 0.0)
        log = tf.sign(value) * tf.math.log1p(tf.abs(value))
        outputs[name] = tft.scale_to_z_score(log)
    for name, arguments in custom_config["categorical"].items():
        outputs[name] = tft.compute_and_apply_vocabulary(
            _dense(inputs[name], ""), vocab_filename=name, **arguments
        )
    return outputs


def _dense(sparse: tf.SparseTensor, default: Any) -> tf.Tensor:
    """[N], `default` where missing."""
    column = tf.SparseTensor(
        sparse.indices, sparse.values, [sparse.dense_shape[0], 1]
    )
    default = tf.cast(default, sparse.dtype)
    return tf.squeeze(tf.sparse.to_dense(column, default), 1)
