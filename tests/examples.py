"""Serialized tf.Examples that tests write."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def example(**columns: Any) -> bytes:
    """A serialized example; a column of None is missing, a list is of texts."""
    made = tf.train.Example()
    for name, value in columns.items():
        feature = made.features.feature[name]
        if isinstance(value, list):
            texts = [text.encode() for text in value]
            feature.bytes_list.value.extend(texts)
        elif isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        elif value is not None:
            feature.int64_list.value.append(value)
    return bytes(made.SerializeToString())
