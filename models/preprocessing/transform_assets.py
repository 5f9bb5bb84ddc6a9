"""Vocabularies and counts among the assets of Transform's graph.

A vocabulary may be large: each use reads what it needs, and nothing is kept.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

_PART = 1 << 24  # bytes read at a time


def asset_text(transform: tft.TFTransformOutput, name: str) -> bytes:
    """Lines of an asset, as they are joined; none of them is empty."""
    with _open(transform, name) as file:
        text: bytes = file.read().strip(b"\n")
    return text


def asset_lines(transform: tft.TFTransformOutput, name: str) -> list[bytes]:
    """Lines of an asset; empty ones are no lines."""
    return [x for x in asset_text(transform, name).split(b"\n") if x]


def lines_of(path: str) -> list[bytes]:
    """Lines of an asset of an exported model."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return [x for x in file.read().split(b"\n") if x]


def asset_size(transform: tft.TFTransformOutput, name: str) -> int:
    """How many lines an asset has, of which none is kept."""
    count, last = 0, b"\n"
    with _open(transform, name) as file:
        while part := file.read(_PART):
            breaks = np.frombuffer(last + part, np.uint8) == ord("\n")
            count += int(np.count_nonzero(breaks[:-1] & ~breaks[1:]))
            last = part[-1:]
    return count


def _open(transform: tft.TFTransformOutput, name: str) -> Any:
    path = os.path.join(transform.transform_savedmodel_dir, "assets", name)
    return tf.io.gfile.GFile(path, "rb")
