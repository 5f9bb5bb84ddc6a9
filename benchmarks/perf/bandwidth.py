"""Limits of memory: a triad, and touching the rows of a batch."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = """
#include <cstdint>
#include <thread>
#include <vector>
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
CLONES static void triad_part(float* a, const float* b, float s, int64_t n) {
  for (int64_t i = 0; i < n; ++i) a[i] += s * b[i];
}
CLONES static void touch_part(float* a, float* b, const int64_t* rows,
                              int64_t n, int64_t width) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t next = rows[i + 24 < n ? i + 24 : n - 1] * width;
    for (int64_t j = 0; j < width; j += 16) {
      __builtin_prefetch(a + next + j, 1);
      __builtin_prefetch(b + next + j, 1);
    }
    float* x = a + rows[i] * width;
    float* y = b + rows[i] * width;
    for (int64_t j = 0; j < width; ++j) x[j] += 1;
    for (int64_t j = 0; j < width; ++j) y[j] += 1;
  }
}
template <typename Work>
static void share(int64_t n, int k, const Work& work) {
  std::vector<std::thread> threads;
  for (int t = 1; t < k; ++t) {
    threads.emplace_back([=] { work(n * t / k, n * (t + 1) / k); });
  }
  work(0, n / k);
  for (auto& thread : threads) thread.join();
}
extern "C" void triad(float* a, const float* b, float s, int64_t n, int k) {
  share(n, k, [=](int64_t i, int64_t end) {
    triad_part(a + i, b + i, s, end - i);
  });
}
extern "C" void touch(float* a, float* b, const int64_t* rows, int64_t n,
                      int64_t width, int k) {
  share(n, k, [=](int64_t i, int64_t end) {
    touch_part(a, b, rows + i, end - i, width);
  });
}
"""


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "it.cc", Path(folder) / "it.so"
        source.write_text(SOURCE)
        subprocess.run(
            [os.environ.get("CXX", "g++"), "-O3", "-shared", "-fPIC"]
            + ["-pthread", str(source), "-o", str(library)],
            check=True,
        )
        return ctypes.CDLL(str(library))


def threads() -> int:
    """As many as TensorFlow has."""
    return len(os.sched_getaffinity(0))


def triad(elements: int) -> Callable[[], Any]:
    """Returns a call of a[i] += s * b[i] for `elements` floats."""
    function = _library().triad
    a, b = np.ones(elements, np.float32), np.ones(elements, np.float32)
    return lambda: function(
        _pointer(a),
        _pointer(b),
        ctypes.c_float(0.5),
        ctypes.c_int64(elements),
        ctypes.c_int(threads()),
    )


def touch(
    rows: int, dim: int, batches: list[np.ndarray]
) -> list[Callable[[], Any]]:
    """Returns a call for each batch: its distinct rows in two tables += 1.

    The rows are prefetched in ascending order; NumPy's large arrays are in
    huge pages, as our kernel's tables are.
    """
    function = _library().touch
    a, b = np.ones([rows, dim], np.float32), np.ones([rows, dim], np.float32)

    def call(ids: np.ndarray) -> Callable[[], Any]:
        return lambda: function(
            _pointer(a),
            _pointer(b),
            _pointer(ids),
            ctypes.c_int64(len(ids)),
            ctypes.c_int64(dim),
            ctypes.c_int(threads()),
        )

    return [call(np.unique(ids).astype(np.int64)) for ids in batches]


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
