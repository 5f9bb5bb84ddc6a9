"""Lion's steps in TensorFlow on a GPU beside the NumPy reference."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optimizers import Lion
from optimizers.kernel import kernel_status
from optimizers.ops.library import load

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/optimizers"))
from reference import DTYPES, FLOAT16, ReferenceLion  # noqa: E402

ROWS, WIDTH = 997, 24
IDS = (1500, 700, 0, 1500)  # of each step; 0: a dense gradient
PATHS = {"eager": None, "graph": False, "jit": True}
Arguments = dict[str, Any]
# Dtype of the table, and arguments of Lion.
VARIANTS: dict[str, tuple[str, Arguments]] = {
    "lazy": ("float32", {}),
    "cautious": ("float32", {"cautious": True}),
    "by frequency": ("float32", {"frequency_power": 0.35}),
    "decayed": ("float32", {"sparse": "decayed"}),
    "decayed by frequency": (
        "float32",
        {"sparse": "decayed", "frequency_power": 0.35},
    ),
    "dense": ("float32", {"sparse": "dense"}),
    "bfloat16 momentum": ("float32", {"momentum_dtype": "bfloat16"}),
    "bfloat16 at random": ("bfloat16", {"stochastic_rounding": True}),
    "float16 at random": (
        "float16",
        {"stochastic_rounding": True, "momentum_dtype": "float32"},
    ),
    "float64": ("float64", {}),
}


def findings(
    part: str, small: bool
) -> Iterator[tuple[str, Callable[..., Any], *tuple[Any, ...]]]:
    """Names, functions and arguments of what a part finds out."""
    kernel = "xla" if small else "auto"  # what `auto` is on a GPU
    if part == "device":
        yield "device", device, small
        for path in PATHS:
            yield f"id out of range, {path}", out_of_range, path, kernel
    elif part == "parity":
        for name, (dtype, arguments) in VARIANTS.items():
            for path in PATHS:
                given = (dtype, arguments, path, kernel)
                yield f"{name}, {path}", parity, *given
        yield "lazy, eager, python", parity, "float32", {}, "eager", "python"
    else:
        for jit in (False, True):
            yield f"fit, jit_compile={jit}", fit, jit, kernel


def device(small: bool) -> dict[str, Any]:
    """The devices, the library, and where an update runs."""
    gpus = tf.config.list_physical_devices("GPU")
    optimizer, table = _built("float32", {})
    _apply(optimizer, table, "eager")(*_gradient(np.random.default_rng(0), 9))
    where = {table.value.device, optimizer._momentums[0].value.device}
    return {
        "right": small or (bool(gpus) and all("GPU" in one for one in where)),
        "gpus": [tf.config.experimental.get_device_details(g) for g in gpus],
        "tensorflow": tf.__version__,
        "built_with": dict(tf.sysconfig.get_build_info()),
        "library": load().reason,
        "kernel": kernel_status(),
        "state_is_on": sorted(where),
    }


def parity(
    dtype: str, arguments: Arguments, path: str, kernel: str
) -> dict[str, Any]:
    """Some steps of one variable, and how far they are from the reference."""
    optimizer, table = _built(dtype, {**arguments, "kernel": kernel})
    reference = ReferenceLion(
        table.numpy(), 0.01, weight_decay=0.1, **arguments
    )
    apply, rng = _apply(optimizer, table, path), np.random.default_rng(1)
    for count in IDS:
        values, ids = _gradient(rng, count, reference.theta.dtype)
        apply(values, ids)
        reference.step((values, ids) if count else values)
    pairs = [
        (table.numpy(), reference.theta),
        (optimizer._momentums[0].numpy(), reference.m),
    ]
    for slot, expected in (("_seen", "seen"), ("_last_steps", "last_step")):
        if getattr(optimizer, slot, None):
            counter = getattr(optimizer, slot)[0].numpy()
            pairs.append((counter, getattr(reference, expected)))
    # Sums in another order move a result by a last place, and the sign of
    # what is all but 0.
    near = [
        float(np.mean(np.isclose(np.float64(a), np.float64(b), 1e-2, 1e-6)))
        for a, b in pairs
    ]
    return {
        "right": min(near) > 0.999,
        "same_bits": [round(float(np.mean(a == b)), 4) for a, b in pairs],
        "near": [round(one, 5) for one in near],
    }


def out_of_range(path: str, kernel: str) -> dict[str, Any]:
    """An id that no row has: an error, or left out; no other row moves."""
    optimizer, table = _built("float32", {"kernel": kernel})
    before = table.numpy()
    values, _ = _gradient(np.random.default_rng(0), 3)
    ids, raised = np.array([5, ROWS, -1]), ""
    try:
        _apply(optimizer, table, path)(values, ids)
    except tf.errors.InvalidArgumentError as error:
        raised = error.message[:120]
    moved = np.flatnonzero((table.numpy() != before).any(1)).tolist()
    return {
        "right": moved == ([] if raised else [5]),
        "raised": raised,
        "rows_moved": moved,
    }


def fit(jit: bool, kernel: str) -> dict[str, Any]:
    """Losses of `model.fit` by each kernel; pure TensorFlow's is the judge."""
    # Products of 10 bits would move the losses apart.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    rng = np.random.default_rng(0)
    ids = rng.zipf(1.3, (4096, 6)) % 500
    label = (ids.sum(1) % 3 == 0).astype(np.float32)
    losses = {}
    for one in (kernel, "python"):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.layers.Embedding(500, 8),
                keras.layers.Flatten(),
                keras.layers.Dense(16, "relu"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            Lion(3e-3, weight_decay=0.01, kernel=one),
            keras.losses.BinaryCrossentropy(from_logits=True),
            jit_compile=jit,
        )
        found = model.fit(
            ids, label, batch_size=256, epochs=3, shuffle=False, verbose=0
        )
        losses[one] = [round(x, 5) for x in found.history["loss"]]
    apart = np.abs(np.subtract(losses[kernel], losses["python"])).max()
    first, *_, last = losses[kernel]
    return {"right": bool(apart < 2e-3 and last < first), **losses}


def _built(dtype: str, arguments: Arguments) -> tuple[Any, Any]:
    kind = FLOAT16 if dtype == "float16" else DTYPES[dtype]
    start = np.random.default_rng(7).normal(size=(ROWS, WIDTH)).astype(kind)
    table = keras.Variable(start, dtype=dtype, name="table")
    optimizer = Lion(0.01, weight_decay=0.1, **arguments)
    optimizer.build([table])
    return optimizer, table


def _apply(optimizer: Any, table: Any, path: str) -> Callable[..., None]:
    """An update by `values` of the rows `ids`; without ids a dense one."""

    def sparse(values: Any, ids: Any) -> None:
        gradient = tf.IndexedSlices(values, ids, (ROWS, WIDTH))
        optimizer.apply([gradient], [table])

    def dense(values: Any) -> None:
        optimizer.apply([values], [table])

    jit = PATHS[path]
    if jit is not None:
        sparse = tf.function(sparse, jit_compile=jit, reduce_retracing=True)
        dense = tf.function(dense, jit_compile=jit)

    def apply(values: Any, ids: Any) -> None:
        if len(ids):
            sparse(tf.constant(values), tf.constant(ids, tf.int64))
        else:
            dense(tf.constant(values))

    return apply


def _gradient(
    rng: np.random.Generator, count: int, dtype: Any = np.float32
) -> tuple[Any, Any]:
    ids = rng.integers(0, ROWS, count)
    shape = (count or ROWS, WIDTH)
    return rng.normal(size=shape).astype(dtype), ids
