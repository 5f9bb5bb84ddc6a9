"""Lion's CPU kernels against memory bandwidth and against other optimizers.

    python benchmarks/lion_kernels.py

All figures are medians, each beside what it is compared with, taken in turns
in one process. The triad a[i] += s * b[i] runs on as many threads as
TensorFlow has and moves 12 bytes per element; a dense float32 update moves 20
bytes per parameter.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure

TRIAD = """
#include <cstdint>
#include <thread>
#include <vector>
extern "C" __attribute__((target_clones("avx512f", "avx2", "default")))
void part(float* a, const float* b, float s, int64_t n) {
  for (int64_t i = 0; i < n; ++i) a[i] += s * b[i];
}
extern "C" void triad(float* a, const float* b, float s, int64_t n, int k) {
  std::vector<std::thread> threads;
  for (int t = 1; t < k; ++t) {
    threads.emplace_back(part, a + n * t / k, b + n * t / k, s,
                         n * (t + 1) / k - n * t / k);
  }
  part(a, b, s, n / k);
  for (auto& thread : threads) thread.join();
}
"""
DENSE_BYTES = 20  # read weight, momentum, gradient; write weight, momentum
TRIAD_BYTES = 12
BATCH, FEATURES, DIM = 2048, 26, 16


def milliseconds(
    works: dict[str, Callable[[], Any]], repeats: int, warmup: int = 3
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


def triad(elements: int, threads: int) -> Callable[[], None]:
    """Returns a call that does one triad over `elements` floats."""
    import numpy as np

    compiler = os.environ.get("CXX", "g++")
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "triad.cc", Path(folder) / "triad.so"
        source.write_text(TRIAD)
        subprocess.run(
            [compiler, "-O3", "-shared", "-fPIC", "-pthread"]
            + [str(source), "-o", str(library)],
            check=True,
        )
        function = ctypes.CDLL(str(library)).triad
    a, b = np.ones(elements, np.float32), np.ones(elements, np.float32)

    def call() -> None:
        function(
            a.ctypes.data_as(ctypes.c_void_p),
            b.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_float(0.5),
            ctypes.c_int64(elements),
            ctypes.c_int(threads),
        )

    return call


def dense(parameters: int, repeats: int) -> dict[str, float]:
    """Milliseconds of one dense update of `parameters` float32 weights."""
    import keras
    import tensorflow as tf

    from optimizers import Lion

    gradient = tf.random.normal([parameters], seed=1)

    def update(optimizer: Any, jit_compile: bool) -> Callable[[], Any]:
        variable = keras.Variable(tf.zeros([parameters]), name="weights")
        optimizer.build([variable])

        @tf.function(jit_compile=jit_compile)
        def step() -> None:
            optimizer.apply([gradient], [variable])

        return step

    works = {
        "triad": triad(parameters, len(os.sched_getaffinity(0))),
        "ours": update(
            Lion(1e-4, weight_decay=0.01, kernel="custom_op"), False
        ),
        "ours, bfloat16 momentum": update(
            Lion(1e-4, kernel="custom_op", momentum_dtype="bfloat16"), False
        ),
        "ours, cautious": update(
            Lion(1e-4, kernel="custom_op", cautious=True), False
        ),
        "python kernel": update(Lion(1e-4, kernel="python"), False),
        "keras": update(keras.optimizers.Lion(1e-4), False),
        "keras, XLA": update(keras.optimizers.Lion(1e-4), True),
    }
    return milliseconds(works, repeats)


def batches(rows: int, count: int = 8) -> list[Any]:
    """Batches of Zipf ids; the same ranks whatever the number of rows."""
    import numpy as np

    rng = np.random.default_rng(1)
    spread = rng.integers(0, rows, size=100_000)  # a rank's row
    return [
        spread[rng.zipf(1.1, size=BATCH * FEATURES) % 100_000]
        for _ in range(count)
    ]


def sparse(rows: int, repeats: int) -> dict[str, float]:
    """Milliseconds of one update of a table by a batch of Zipf ids."""
    import itertools

    import keras
    import numpy as np
    import tensorflow as tf
    import tf_keras

    from optimizers import Lion

    all_ids = [tf.constant(ids) for ids in batches(rows)]
    values = tf.random.normal([BATCH * FEATURES, DIM], seed=1)
    distinct = statistics.mean(len(np.unique(ids)) for ids in all_ids)

    def update(optimizer: Any, keras_3: bool = True) -> Callable[[], Any]:
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

    def timed(optimizer: Any, keras_3: bool = True, few: int = 1) -> float:
        work = update(optimizer, keras_3)
        return milliseconds({"it": work}, max(3, repeats // few))["it"]

    return {
        "distinct": distinct,
        "ours": timed(Lion(1e-4, weight_decay=0.01, kernel="custom_op")),
        "ours, decayed": timed(
            Lion(1e-4, sparse="decayed", kernel="custom_op")
        ),
        "ours, cautious": timed(Lion(1e-4, cautious=True, kernel="custom_op")),
        "python kernel": timed(Lion(1e-4, kernel="python")),
        "tf_keras Adagrad": timed(tf_keras.optimizers.Adagrad(1e-4), False),
        "keras Lion": timed(keras.optimizers.Lion(1e-4), few=10),
    }


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=50_000_000)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 10**7])
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()

    table = measure.Table("Lion's CPU kernels")
    got = measure.alone(dense, options.parameters, options.repeats)
    rate = {
        name: size * options.parameters / got[name] / 1e6
        for name, size in (("triad", TRIAD_BYTES), ("ours", DENSE_BYTES))
    }
    print(f"Dense, {options.parameters:,} float32 parameters, ms")
    table.line("triad", f"{got['triad']:.1f} ({rate['triad']:.1f} GB/s)")
    table.line("ours", f"{got['ours']:.1f} ({rate['ours']:.1f} GB/s)")
    for name in list(got)[2:]:
        table.line(name, f"{got[name]:.1f}")
    share = rate["ours"] / rate["triad"]
    table.goal(
        "ours, share of the triad", f"{share:.0%}", ">= 85 %", share >= 0.85
    )
    for name, least in (("keras", 3.0), ("keras, XLA", 2.5)):
        ratio = got[name] / got["ours"]
        table.goal(
            f"{name} / ours", f"{ratio:.1f}", f">= {least:g}", ratio >= least
        )

    ours = []
    for rows in options.rows:
        got = measure.alone(sparse, rows, options.repeats)
        ours.append(got["ours"])
        print(
            f"\nSparse, {rows:,} rows x {DIM}, {BATCH} x {FEATURES} ids, "
            f"{got.pop('distinct'):,.0f} distinct, ms"
        )
        for name, value in got.items():
            table.line(name, f"{value:.2f}")
    for name, least in (("keras Lion", 60), ("tf_keras Adagrad", 3)):
        ratio = got[name] / got["ours"]
        table.goal(
            f"{name} / ours", f"{ratio:.1f}", f">= {least}", ratio >= least
        )
    growth = ours[1] / ours[0]
    table.goal(
        "ours, most rows / fewest rows",
        f"{growth:.2f}",
        "<= 1.3",
        growth <= 1.3,
    )
    extra = measure.alone(extra_mib, max(options.rows))
    table.goal(
        "memory beyond variable and slot",
        f"{extra:.0f} MiB",
        "<= 64 MiB",
        extra <= 64,
    )
    table.exit()


if __name__ == "__main__":
    main()
