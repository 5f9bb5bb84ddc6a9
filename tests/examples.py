"""Serialized tf.Examples that tests write."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def example(**columns: Any) -> bytes:
    """A serialized example of values, or lists of them, by their types.

    A column of None, or of an empty list, is a feature without a value.
    """
    made = tf.train.Example()
    for name, value in columns.items():
        feature = made.features.feature[name]
        several = isinstance(value, list | tuple | np.ndarray)
        for item in value if several else [value]:
            if isinstance(item, str | bytes):
                text = item.encode() if isinstance(item, str) else item
                feature.bytes_list.value.append(text)
            elif isinstance(item, float | np.floating):
                feature.float_list.value.append(item)
            elif item is not None:
                feature.int64_list.value.append(item)
    return bytes(made.SerializeToString())
