"""Lion's time and memory in TensorFlow on a GPU, beside Keras's optimizers."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.studies.gpu.drawing import DISTINCT, zipf_lookups
from optimizers import Lion
from optimizers.ops import xla

GPU = "GPU:0"
FIELDS, NUMBERS, DIM = 26, 13, 16
HIDDEN = {"256-128": [256, 128], "1024x5": [1024] * 5}
PATHS = {"eager": None, "graph": False, "jit": True}
MODES: dict[str, dict[str, Any]] = {
    "lazy": {},
    "by frequency": {"frequency_power": 0.35},
    "decayed": {"sparse": "decayed"},
}
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Lion": lambda: Lion(1e-4),
    "Lion by frequency": lambda: Lion(1e-4, frequency_power=0.35),
    "Lion, bfloat16 momentum": lambda: Lion(1e-4, momentum_dtype="bfloat16"),
    "keras Lion": lambda: keras.optimizers.Lion(1e-4),
    "keras Adam": lambda: keras.optimizers.Adam(1e-3),
}

LARGE = ("Lion", "keras Adam")  # with the larger network


def findings(
    part: str, small: bool
) -> Iterator[tuple[str, Callable[..., Any], *tuple[Any, ...]]]:
    """Names, functions and arguments of what a part finds out."""
    if part == "compile":
        for path in PATHS:
            yield f"other numbers of ids, {path}", compiling, path, small
    elif part == "memory":
        for mode, arguments in MODES.items():
            for path in PATHS:
                yield f"{mode}, {path}", memory, arguments, path, small
    elif part == "update":
        shape = (100_000, 1) if small else (100_000_000, 1)
        for name in OPTIMIZERS:
            yield f"dense 100M, {name}", update, name, shape, 0
        table, ids = ((10_000, 128), 3000), ((16_800_000, 128), 1_048_570)
        for name in OPTIMIZERS:
            yield (
                f"FBGEMM's shape, {name}",
                update,
                name,
                *(table if small else ids),
            )
    else:
        for hidden, name, policy in itertools.product(
            HIDDEN, OPTIMIZERS, ("float32", "mixed_bfloat16")
        ):
            if hidden == "256-128" or name in LARGE:
                given = (HIDDEN[hidden], policy, name, small)
                yield f"{hidden}, {policy}, {name}", step, *given


def compiling(path: str, small: bool) -> dict[str, Any]:
    """Seconds of updates whose number of ids is a new one each time."""
    rows = 10_000 if small else 1_000_000
    optimizer, table = _built(lambda: Lion(1e-4, kernel="xla"), (rows, DIM))
    apply = _apply(optimizer, table, PATHS[path])
    program: Any = xla._compiled("resource_sparse_apply_lion")
    before = program.experimental_get_tracing_count()
    rng, seconds = np.random.default_rng(0), []
    for count in rng.integers(40_000, 60_000, 12):
        ids = tf.constant(rng.integers(0, rows, count))
        values = tf.ones([count, DIM])
        began = time.perf_counter()
        apply(values, ids)
        _wait(table)
        seconds.append(round(time.perf_counter() - began, 3))
    traces = program.experimental_get_tracing_count() - before
    return {"seconds": seconds, "traces": traces}


def memory(arguments: dict[str, Any], path: str, small: bool) -> dict[str, Any]:
    """Memory beside the table and its slots while 100,000 ids update it."""
    rows = 100_000 if small else 16_000_000
    optimizer, table = _built(
        lambda: Lion(1e-4, kernel="xla", **arguments), (rows, 64)
    )
    apply = _apply(optimizer, table, PATHS[path])
    rng = np.random.default_rng(0)
    ids = tf.constant(rng.integers(0, rows, 100_000))
    values = tf.ones([100_000, 64])
    apply(values, ids)
    _wait(table)
    found: dict[str, Any] = {"table_MB": rows * 256 / 1e6}
    if small:
        return found
    tf.config.experimental.reset_memory_stats(GPU)
    before = tf.config.experimental.get_memory_info(GPU)["current"]
    apply(values, ids)
    _wait(table)
    peak = tf.config.experimental.get_memory_info(GPU)["peak"]
    more = (peak - before) / 1e6
    return {
        "right": more < found["table_MB"] / 2,
        "more_MB": round(more, 1),
        **found,
    }


def update(
    name: str, shape: tuple[int, int], lookups: int
) -> dict[str, dict[str, float] | str]:
    """Milliseconds of an update, dense without lookups, by path."""
    found: dict[str, Any] = {}
    for path in ("graph", "jit"):
        optimizer, table = _built(OPTIMIZERS[name], shape)
        given = [tf.sin(tf.range(float(lookups or shape[0])))[:, tf.newaxis]]
        given[0] = tf.repeat(given[0], shape[1], 1)
        if lookups:
            drawn = zipf_lookups(
                shape[0],
                lookups,
                min(DISTINCT, lookups // 3),
                np.random.default_rng(1),
            )
            given.append(tf.constant(drawn))
        apply = _apply(optimizer, table, PATHS[path])
        try:
            began = time.perf_counter()
            apply(*given)
            _wait(table)
            first = time.perf_counter() - began
            seconds = _per_call(lambda: apply(*given), table)  # noqa: B023
            found[path] = {
                "ms": round(1e3 * seconds, 3),
                "first_s": round(first, 2),
            }
        except tf.errors.OpError as error:
            found[path] = f"{type(error).__name__}: {error.message[:150]}"
    return found


def step(
    hidden: list[int], policy: str, name: str, small: bool
) -> dict[str, Any]:
    """Rows a second of the product's compiled loop on wide and deep."""
    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.training.train_step import TrainStep

    size, batch = (100, 64) if small else (100_000, 65_536)
    layout = Layout(
        tuple(IdFeature(f"C{i}", size, DIM) for i in range(FIELDS)),
        (),
        tuple(f"I{i}" for i in range(NUMBERS)),
    )
    keras.config.set_dtype_policy(policy)
    model = build_model(layout, ModelConfig(hidden=tuple(hidden)), 0.25)
    optimizer = OPTIMIZERS[name]()
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    training = TrainStep(model, optimizer, True, 1.0, strategy)
    with tf.device("CPU:0"):  # the input pipeline's place
        rows = _rows(size, batch)
    data = tf.data.Dataset.from_tensors(rows).repeat().prefetch(2)
    iterator, steps = iter(data), 2 if small else 30
    began = time.perf_counter()
    losses = [training.run(iterator, 1).loss]
    first = time.perf_counter() - began
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        losses.append(training.run(iterator, steps).loss)
        seconds.append((time.perf_counter() - began) / steps)
    on_card = _rows(size, batch)
    table = max(model.trainable_variables, key=lambda v: np.prod(v.shape))
    alone = _per_call(lambda: training._update(*on_card), table)
    return {
        "right": bool(np.isfinite(losses).all() and losses[-1] < losses[0]),
        "rows_per_s": round(batch / statistics.median(seconds[1:])),
        "rows_per_s_without_input": round(batch / alone),
        "first_s": round(first, 1),
        "losses": [round(one, 5) for one in losses],
    }


def _rows(size: int, batch: int) -> Any:
    rng = np.random.default_rng(1)
    ids = (rng.zipf(1.2, (batch, FIELDS)) % size).astype(np.int64)
    numbers = rng.normal(size=(batch, NUMBERS)).astype(np.float32)
    label = (rng.random(batch) < 0.25).astype(np.float32)
    return (
        {"ids": tf.constant(ids), "dense": tf.constant(numbers)},
        tf.constant(label),
    )


def _built(make: Callable[[], Any], shape: tuple[int, int]) -> tuple[Any, Any]:
    keras.backend.clear_session()
    gc.collect()  # the tables of the part before
    table = keras.Variable(lambda s, dtype: tf.fill(s, 0.5), shape=shape)
    optimizer = make()
    optimizer.build([table])
    return optimizer, table


def _apply(optimizer: Any, table: Any, jit: bool | None) -> Any:
    """An update of the rows `ids`; without ids a dense one."""

    def apply(values: Any, ids: Any = None) -> None:
        gradient = values
        if ids is not None:
            gradient = tf.IndexedSlices(values, ids, tuple(table.shape))
        optimizer.apply([gradient], [table])

    if jit is None:
        return apply
    return tf.function(apply, jit_compile=jit or None, reduce_retracing=True)


def _wait(table: Any) -> None:
    """Returns once the device has done all that the table waits for."""
    tf.reshape(table.value[:1], [-1])[0].numpy()


def _per_call(run: Callable[[], Any], table: Any) -> float:
    """Median seconds of a call, of blocks of calls that are queued."""
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        for _ in range(10):
            run()
        _wait(table)
        seconds.append((time.perf_counter() - began) / 10)
    return statistics.median(seconds[1:])
