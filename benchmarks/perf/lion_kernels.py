"""Lion's CPU kernels against memory bandwidth and against other optimizers.

All figures are medians; what a ratio compares was called in turns, in one
run. The triad a[i] += s * b[i] runs on as many threads as TensorFlow has and
moves 12 bytes per element; a dense float32 update moves 20 bytes per
parameter. PyTorch is not in our environment: it runs in that of `torch_python`.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.perf import bandwidth
from benchmarks.perf.table import Table

SMOKE = {"parameters": 1000, "rows": [200], "repeats": 1}

_PEERS = Path(__file__).resolve().parents[1] / "studies/peers"
DENSE_BYTES = 20  # read weight, momentum, gradient; write weight, momentum
TRIAD_BYTES = 12
BATCH, FEATURES, DIM = 2048, 26, 16
MODES: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, decayed": {"sparse": "decayed"},
    "ours, cautious": {"cautious": True},
    "ours, bfloat16 momentum": {"momentum_dtype": "bfloat16"},
}
Work = Callable[[], Any]


def milliseconds(
    works: dict[str, Work], repeats: int, warmup: int = 3
) -> dict[str, float]:
    """Median milliseconds of each, all of them called in turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-warmup, repeats):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn >= 0:
                times[name].append(time.perf_counter() - began)
    return {k: 1e3 * statistics.median(v) for k, v in times.items()}


def batches(rows: int, count: int = 8) -> list[np.ndarray]:
    """Batches of Zipf ids; the same ranks whatever the number of rows."""
    rng = np.random.default_rng(1)
    spread = rng.integers(0, rows, size=100_000)  # a rank's row
    return [
        spread[rng.zipf(1.1, size=BATCH * FEATURES) % 100_000]
        for _ in range(count)
    ]


def torch_work(python: str, *arguments: Any) -> Work:
    """Returns a call that does an update of torch_updates.py in `python`."""
    script = _PEERS / "torch_updates.py"
    process = subprocess.Popen(
        [python, str(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Its threads must not keep the cores while the others are measured.
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": ""},
        text=True,
        bufsize=1,
    )

    def call() -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        if not process.stdout.readline():
            raise RuntimeError(f"torch_updates.py in {python} failed")

    return call


def dense(parameters: int, repeats: int, torch_python: str) -> dict[str, float]:
    """Milliseconds of one dense update of `parameters` float32 weights."""
    import keras
    import tensorflow as tf

    from optimizers import Lion

    gradient = tf.random.normal([parameters], seed=1)

    def update(optimizer: Any, jit_compile: bool = False) -> Work:
        variable = keras.Variable(tf.zeros([parameters]), name="weights")
        optimizer.build([variable])

        @tf.function(jit_compile=jit_compile)
        def step() -> None:
            optimizer.apply([gradient], [variable])

        return step

    works = {
        "triad": bandwidth.triad(parameters),
        "ours": update(Lion(1e-4, weight_decay=0.01, kernel="custom_op")),
        "ours, bfloat16 momentum": update(
            Lion(1e-4, kernel="custom_op", momentum_dtype="bfloat16")
        ),
        "ours, cautious": update(Lion(1e-4, kernel="custom_op", cautious=True)),
        "python kernel": update(Lion(1e-4, kernel="python")),
        "keras Lion": update(keras.optimizers.Lion(1e-4)),
        "keras Lion, XLA": update(keras.optimizers.Lion(1e-4), True),
    }
    if torch_python:
        works["torch Adam, fused"] = torch_work(
            torch_python, "adam", parameters
        )
    return milliseconds(works, repeats)


def table_update(
    optimizer: Any, rows: int, all_ids: list[Any], values: Any
) -> Work:
    """Returns a call of one update of a table by the next batch of ids."""
    import keras
    import tensorflow as tf

    keras_3 = isinstance(optimizer, keras.optimizers.Optimizer)
    start = tf.zeros([rows, DIM])
    variable = keras.Variable(start) if keras_3 else tf.Variable(start)
    optimizer.build([variable])
    turns = itertools.cycle(all_ids)

    @tf.function
    def step(ids: tf.Tensor) -> None:
        gradient = tf.IndexedSlices(values, ids, [rows, DIM])
        if keras_3:
            optimizer.apply([gradient], [variable])
        else:
            optimizer.apply_gradients([(gradient, variable)])

    return lambda: step(next(turns))


def growth(mode: str, sizes: list[int], repeats: int) -> list[float]:
    """Milliseconds of our update of tables of `sizes` rows, in turns."""
    import tensorflow as tf

    from optimizers import Lion

    values = tf.random.normal([BATCH * FEATURES, DIM], seed=1)

    def update(rows: int) -> Work:
        optimizer = Lion(1e-4, kernel="custom_op", **MODES[mode])
        all_ids = [tf.constant(ids) for ids in batches(rows)]
        return table_update(optimizer, rows, all_ids, values)

    got = milliseconds({str(rows): update(rows) for rows in sizes}, repeats)
    return list(got.values())


def numpy_lion(rows: int, all_ids: list[np.ndarray]) -> Work:
    """Returns a call of a row-lazy Lion as one would write it in NumPy."""
    var = np.zeros([rows, DIM], np.float32)
    m = np.zeros([rows, DIM], np.float32)
    rng = np.random.default_rng(1)
    values = rng.normal(size=[BATCH * FEATURES, DIM]).astype(np.float32)
    turns = itertools.cycle(all_ids)

    def call() -> None:
        ids = next(turns)
        order = np.argsort(ids, kind="stable")
        at, starts = np.unique(ids[order], return_index=True)
        grad = np.add.reduceat(values[order], starts)
        old = m[at]
        var[at] -= np.float32(1e-4) * np.sign(0.9 * old + 0.1 * grad)
        m[at] = 0.99 * old + 0.01 * grad

    return call


def sparse(rows: int, repeats: int, torch_python: str) -> dict[str, float]:
    """Milliseconds of one update of a table by a batch of Zipf ids."""
    import keras
    import tensorflow as tf
    import tf_keras

    from optimizers import Lion

    plain_ids = batches(rows)
    all_ids = [tf.constant(ids) for ids in plain_ids]
    values = tf.random.normal([BATCH * FEATURES, DIM], seed=1)
    optimizers = {
        "ours": Lion(1e-4, weight_decay=0.01, kernel="custom_op"),
        "python kernel": Lion(1e-4, kernel="python"),
        "keras Lion": keras.optimizers.Lion(1e-4),
        "tf_keras Adagrad": tf_keras.optimizers.Adagrad(1e-4),
    }
    touches = itertools.cycle(bandwidth.touch(rows, DIM, plain_ids))
    works: dict[str, Work] = {"touch the rows": lambda: next(touches)()}
    for name, optimizer in optimizers.items():
        works[name] = table_update(optimizer, rows, all_ids, values)
    works["NumPy row-lazy Lion"] = numpy_lion(rows, plain_ids)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        if torch_python:
            np.save(file.name, np.stack(plain_ids))
            works["torch SparseAdam"] = torch_work(
                torch_python, "sparse_adam", file.name, rows, DIM
            )
        return milliseconds(works, repeats)


def training(rows: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a step: lookup, head of two layers, backward, update."""
    import keras
    import tensorflow as tf

    from optimizers import Lion

    all_ids = [
        tf.constant(ids.reshape(BATCH, FEATURES)) for ids in batches(rows)
    ]
    labels = tf.cast(tf.random.uniform([BATCH, 1], seed=1) < 0.2, tf.float32)

    def step_of(optimizer: Any) -> Work:
        model = keras.Sequential(
            [
                keras.Input([FEATURES], dtype="int64"),
                keras.layers.Embedding(rows, DIM, "zeros"),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(1),
            ]
        )
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        optimizer.build(model.trainable_variables)
        turns = itertools.cycle(all_ids)

        @tf.function
        def step(ids: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                value = loss(labels, model(ids, training=True))
            variables = model.trainable_variables
            gradients = tape.gradient(value, [v.value for v in variables])
            optimizer.apply(gradients, variables)

        return lambda: step(next(turns))

    optimizers = {
        "ours": Lion(1e-4, kernel="custom_op"),
        "keras Lion": keras.optimizers.Lion(1e-4),
        "keras Adagrad": keras.optimizers.Adagrad(1e-4),
        "keras SGD": keras.optimizers.SGD(1e-4),
        "keras Adam": keras.optimizers.Adam(1e-4),
    }
    works = {name: step_of(it) for name, it in optimizers.items()}
    return milliseconds(works, repeats)


def extra_mib(rows: int) -> float:
    """Most memory that an update has beyond variable, slot and batch, MiB."""
    import keras
    import tensorflow as tf

    from optimizers import Lion

    variable = keras.Variable(tf.zeros([rows, DIM]))
    optimizer = Lion(1e-4, kernel="custom_op")
    optimizer.build([variable])
    values = tf.random.normal([BATCH * FEATURES, DIM], seed=1)
    all_ids = [tf.constant(ids) for ids in batches(rows)]
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    for ids in all_ids:
        gradient = tf.IndexedSlices(values, ids, [rows, DIM])
        optimizer.apply([gradient], [variable])
    return _status_mib("VmHWM") - before


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)


def run(
    parameters: int = 50_000_000,
    rows: Sequence[int] = (10**5, 10**6, 10**7),
    repeats: int = 40,
    torch_python: str = "",
) -> Table:
    """Measure the kernels.

    Args:
        parameters: of the dense update.
        rows: of the tables.
        repeats: of which the median counts.
        torch_python: a Python that has torch and numpy; "" leaves torch out.
    """
    table = Table("Lion's CPU kernels")
    least, most = min(rows), max(rows)
    dense_ms = measure.alone(dense, parameters, repeats, torch_python)
    _lines(table, f"dense, {parameters:,} weights", dense_ms)
    grown = {}
    for mode in MODES:
        got = measure.alone(growth, mode, list(rows), 5 * repeats)
        grown[mode] = got[-1] / got[0]
        by_rows = dict(zip(map("{:,} rows".format, rows), got, strict=True))
        _lines(table, f"sparse alone, {mode}", by_rows)
    for count in rows:
        sparse_ms = measure.alone(sparse, count, repeats, torch_python)
        _lines(table, f"sparse, {count:,} rows", sparse_ms)
    for count in rows:
        step_ms = measure.alone(training, count, max(3, repeats // 2))
        _lines(table, f"step, {count:,} rows", step_ms)
    extra = measure.alone(extra_mib, most)

    moved = {"triad": TRIAD_BYTES, "ours": DENSE_BYTES}
    rate = {k: b * parameters / dense_ms[k] / 1e6 for k, b in moved.items()}
    table.line("dense: bandwidth", gb_per_s=rate["ours"])
    table.goal(
        "dense: bandwidth, share of the triad",
        share=rate["ours"] / rate["triad"],
        at_least=0.85,
    )
    for part, got, name, least_ratio in (
        ("dense", dense_ms, "keras Lion", 3),
        ("dense", dense_ms, "keras Lion, XLA", 2.5),
        ("sparse", sparse_ms, "keras Lion", 60),
        ("sparse", sparse_ms, "tf_keras Adagrad", 3),
        ("sparse", sparse_ms, "torch SparseAdam", 3),
        ("step", step_ms, "keras Lion", 20),
        ("step", step_ms, "keras Adagrad", 1),
        ("step", step_ms, "keras SGD", 1),
    ):
        if name in got:
            table.goal(
                f"{part}: {name} / ours",
                ratio=got[name] / got["ours"],
                at_least=least_ratio,
            )
    table.goal(
        f"sparse: {most:,} rows / {least:,} rows",
        ratio=grown["ours"],
        at_most=1.3,
    )
    table.goal("memory beyond variable and slot", mib=extra, at_most=64)
    return table


def _lines(table: Table, part: str, got: dict[str, float]) -> None:
    for name, value in got.items():
        table.line(f"{part}: {name}", ms=value)
