"""Vocabularies and counts among the assets of Transform's graph.

A vocabulary may be large: each use reads what it needs, and nothing is kept.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

_PART = 1 << 24  # bytes read at a time


def asset_text(transform: tft.TFTransformOutput, name: str) -> bytes:
    """Lines of an asset, as they are joined; none of them is empty."""
    with tf.io.gfile.GFile(_path(transform, name), "rb") as file:
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
    return size_of(_path(transform, name))


def size_of(path: str) -> int:
    """The same by the asset's path."""
    count, last = 0, b"\n"
    with tf.io.gfile.GFile(path, "rb") as file:
        while part := file.read(_PART):
            breaks = np.frombuffer(last + part, np.uint8) == ord("\n")
            count += int(np.count_nonzero(breaks[:-1] & ~breaks[1:]))
            last = part[-1:]
    return count


def _path(transform: tft.TFTransformOutput, name: str) -> str:
    return os.path.join(transform.transform_savedmodel_dir, "assets", name)
