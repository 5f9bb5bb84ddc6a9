"""Labels and weights of transformed examples, without their features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.config.training import LABEL, WEIGHT

_ROWS = 65_536
Floats = npt.NDArray[np.float64]


class LabelRows(NamedTuple):
    """Labels of some rows, [N, labels], and their weights, [N]."""

    values: Floats
    weights: Floats


def label_rows(
    files: Sequence[str], further: Sequence[str], weighted: bool
) -> Iterator[LabelRows]:
    """Labels of all rows of TFRecords, some at a time.

    Args:
        files: paths or globs, gzipped where the name ends in .gz.
        further: features of the labels after the first.
        weighted: whether rows have weights; without, each counts 1.
    """
    spec: dict[str, Any] = {
        name: tf.io.FixedLenFeature([], tf.int64) for name in (LABEL, *further)
    }
    if weighted:
        spec[WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
    paths = sorted(path for one in files for path in tf.io.gfile.glob(one))
    for serialized in _records(paths):
        found = tf.io.parse_example(serialized, spec)
        columns = [found[name].numpy() for name in (LABEL, *further)]
        values = np.stack(columns, 1).astype(np.float64)
        weights = np.ones(len(values))
        if weighted:
            weights = found[WEIGHT].numpy().astype(np.float64)
        yield LabelRows(values, weights)


def _records(paths: Sequence[str]) -> Iterator[tf.Tensor]:
    """Serialized examples, some at a time."""
    for compression in ("", "GZIP"):
        some = [p for p in paths if p.endswith(".gz") == bool(compression)]
        yield from tf.data.TFRecordDataset(some, compression).batch(_ROWS)
