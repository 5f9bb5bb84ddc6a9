"""Where the time of a training step goes, against the cores' limit.

    python benchmarks/step.py [--repeats 15] [--table-rows 400000]

Wide and deep of Criteo's shape: 26 ids, 13 numbers, embeddings of 16, hidden
layers of 256 and 128, batches of 4096, Lion. Each part runs alone on the same
tensors, medians; what is left of the step is overhead: elementwise work,
copies, TensorFlow's scheduling. The limit is the step's multiplications at
the rate of one large matrix product on the same cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


import numpy as np
import tensorflow as tf

_BATCH, _FIELDS, _DENSE, _DIM = 4096, 26, 13, 16
_LAYERS = (_FIELDS * _DIM + _DENSE, 256, 128, 1)
_LARGE = 2048


def seconds(run: Callable[[], Any], repeats: int, inside: int = 1) -> float:
    """Median seconds of one of the `inside` things that `run` does."""
    run()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        found.append((time.perf_counter() - began) / inside)
    return statistics.median(found)


def products(dtype: Any) -> Callable[[], Any]:
    """All matrix products of a step: forward, of weights, of inputs."""
    shapes = list(pairwise(_LAYERS))
    x = [tf.random.normal([_BATCH, a], dtype=dtype) for a, _ in shapes]
    w = [tf.random.normal(shape, dtype=dtype) for shape in shapes]
    d = [tf.random.normal([_BATCH, b], dtype=dtype) for _, b in shapes]

    @tf.function
    def run() -> Any:
        return [
            [
                tf.matmul(a, b),
                tf.matmul(a, c, transpose_a=True),
                tf.matmul(c, b, transpose_b=True),
            ]
            for a, b, c in zip(x, w, d, strict=True)
        ]

    return run


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--table-rows", type=int, default=400_000)
    options = parser.parse_args()

    from models.architectures.registry import build_model
    from models.config.architectures import ModelConfig
    from models.preprocessing.input_layout import IdFeature, Layout
    from models.training.train_step import TrainStep
    from optimizers import Lion, ops

    size = options.table_rows // _FIELDS
    layout = Layout(
        tuple(IdFeature(f"C{i}", size, _DIM) for i in range(_FIELDS)),
        (),
        tuple(f"I{i}" for i in range(_DENSE)),
    )
    rng = np.random.default_rng(1)
    ids = (rng.zipf(1.2, (_BATCH, _FIELDS)) % size).astype(np.int64)
    batch = (
        {
            "ids": tf.constant(ids),
            "dense": tf.random.normal([_BATCH, _DENSE]),
        },
        tf.constant((rng.random(_BATCH) < 0.25).astype(np.float32)),
    )
    model = build_model(layout, ModelConfig(), 0.25)
    optimizer = Lion(1e-4)
    optimizer.build(model.trainable_variables)
    step = TrainStep(model, optimizer, False, 1.0, tf.distribute.get_strategy())
    data = iter(tf.data.Dataset.from_tensors(batch).repeat())
    flat = tf.reshape(batch[0]["ids"] + np.arange(_FIELDS) * size, [-1])
    gradient = tf.random.normal([_BATCH * _FIELDS, _DIM])
    tables = [v for v in model.trainable_variables if "table" in v.path]
    copies = [
        (tf.Variable(t.numpy()), tf.Variable(tf.zeros(t.shape))) for t in tables
    ]

    @tf.function
    def gather() -> Any:
        return [tf.reduce_sum(tf.gather(t.value, flat)) for t in tables]

    @tf.function
    def update() -> None:
        for table, momentum in copies:
            ops.resource_sparse_apply_lion(
                table,
                momentum,
                1e-4,
                0.9,
                0.99,
                0.0,
                gradient[:, : table.shape[1]],
                flat,
            )

    forward = tf.function(lambda: model(batch[0], training=False))
    large = tf.random.normal([_LARGE, _LARGE])
    peak = 2 * _LARGE**3 / seconds(lambda: large @ large, options.repeats) / 1e9
    macs = sum(a * b for a, b in pairwise(_LAYERS))
    flops = 6 * _BATCH * macs
    whole = seconds(lambda: step.run(data, 20), options.repeats, 20)
    parts = {
        "matrix products": seconds(products(tf.float32), options.repeats),
        "rows read": seconds(gather, options.repeats),
        "Lion on the tables": seconds(update, options.repeats),
    }
    print(f"step {whole * 1e3:.1f} ms, {_BATCH / whole:,.0f} rows/s")
    for name, found in parts.items():
        print(f"  {name:<22} {found * 1e3:6.1f} ms  {found / whole:4.0%}")
    left = whole - sum(parts.values())
    print(f"  {'all else':<22} {left * 1e3:6.1f} ms  {left / whole:4.0%}")
    limit = flops / peak / 1e9
    print(
        f"limit: {flops / 1e9:.2f} GFLOP at {peak:.0f} GFLOP/s are"
        f" {limit * 1e3:.1f} ms, {limit / whole:.0%} of the step"
    )
    half = seconds(products(tf.bfloat16), options.repeats)
    print(f"matrix products in bfloat16: {half * 1e3:.1f} ms")
    found = seconds(forward, options.repeats)
    print(f"forward pass alone: {found * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
