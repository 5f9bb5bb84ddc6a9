"""A sparse update takes memory for its rows, on every path, not for a table."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tables import needs_library

from optimizers import Lion

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ROWS, DIM, IDS = 1_000_000, 16, 1000
TABLE_MB = ROWS * DIM * 4 / 1e6


def resident_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found, name
    return int(found[1]) * 1024 / 1e6


def more_mb(work: Callable[[], Any]) -> float:
    """Peak of the resident memory during `work`, less that before it."""
    gc.collect()  # tables of earlier tests
    try:
        CLEAR.write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("the kernel does not reset a process's peak")
    before = resident_mb("VmRSS")
    work()
    return resident_mb("VmHWM") - before


def test_the_measure_sees_a_copy_of_the_table() -> None:
    table = tf.Variable(tf.fill([ROWS, DIM], 0.5))
    assert more_mb(lambda: table.assign(table * 2.0)) > TABLE_MB / 2


@pytest.mark.pairs
@pytest.mark.parametrize("path", ["eager", "graph", "jit"])
@pytest.mark.parametrize(
    "kernel",
    [
        "python",
        pytest.param("custom_op", marks=needs_library),
        pytest.param("xla", marks=needs_library),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"frequency_power": 0.5}, {"sparse": "decayed"}],
    ids=["lazy", "by frequency", "decayed"],
)
def test_a_sparse_update_takes_no_memory_of_the_tables_size(
    path: str, kernel: str, arguments: dict[str, Any]
) -> None:
    table = keras.Variable(np.full((ROWS, DIM), 0.5, np.float32))
    lion = Lion(1e-3, kernel=kernel, **arguments)
    lion.build([table])

    def update(values: tf.Tensor, ids: tf.Tensor) -> None:
        lion.apply([tf.IndexedSlices(values, ids, (ROWS, DIM))], [table])

    if path != "eager":
        update = tf.function(update, jit_compile=path == "jit" or None)
    values = tf.ones([IDS, DIM])
    ids = tf.range(0, ROWS, ROWS // IDS, tf.int64)
    update(values, ids)
    assert more_mb(lambda: update(values, ids)) < TABLE_MB / 4
    moved = np.flatnonzero(table.numpy()[:, 0] != 0.5)
    np.testing.assert_array_equal(moved, ids)
