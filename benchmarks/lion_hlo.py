"""Saves what Lion's ops are under XLA, to be compiled and timed elsewhere.

    python benchmarks/lion_hlo.py --out hlo

writes, for GPU and TPU, the functional ops as serialized HLO (`run_hlo.py`
runs it without TensorFlow) and as text, and for this machine's CPU the
optimized HLO of the ops on variables. Neither a GPU nor a TPU is needed.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from optimizers import ops
from optimizers.ops.library import load

PLATFORMS = ("GPU", "TPU")


def main() -> None:
    """Writes all files and prints their names and sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parameters", type=int, default=50_000_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--ids", type=int, default=2048 * 26)
    options = parser.parse_args()
    if load().ops is None:
        parser.exit(1, f"The op library is not usable: {load().reason}\n")

    _register_tpu()
    options.out.mkdir(parents=True, exist_ok=True)
    # lr, beta_1, beta_2, weight_decay
    rates = [tf.TensorSpec([], tf.float32)] * 4
    vector = tf.TensorSpec([options.parameters], tf.float32)
    table = tf.TensorSpec([options.rows, options.width], tf.float32)
    rows = tf.TensorSpec([options.ids, options.width], tf.float32)
    ids = tf.TensorSpec([options.ids], tf.int32)
    functional = {
        "lion_update": (_dense, (vector, vector, vector, *rates)),
        "sparse_lion_update": (_sparse, (table, table, rows, ids, *rates)),
    }
    for name, (function, specs) in functional.items():
        for platform in PLATFORMS:
            stem = options.out / f"{name}-{platform.lower()}"
            _save(stem.with_suffix(".hlo.pb"), function, specs, platform)
            _save(stem.with_suffix(".hlo.txt"), function, specs, platform)
    in_place = {
        "resource_apply_lion": (_dense_in_place(vector), (vector, *rates)),
        "resource_sparse_apply_lion": (
            _sparse_in_place(table),
            (rows, ids, *rates),
        ),
    }
    for name, (function, specs) in in_place.items():
        _save(options.out / f"{name}-cpu-optimized.txt", function, specs)


def _dense(var: Any, m: Any, grad: Any, *rates: Any) -> Any:
    return ops.lion_update(var, m, grad, *rates)


def _sparse(var: Any, m: Any, grad: Any, ids: Any, *rates: Any) -> Any:
    return ops.sparse_lion_update(var, m, grad, ids, *rates)


def _dense_in_place(spec: tf.TensorSpec) -> Callable[..., None]:
    var, m = (tf.Variable(tf.zeros(spec.shape)) for _ in range(2))
    return lambda grad, *rates: ops.resource_apply_lion(var, m, *rates, grad)


def _sparse_in_place(spec: tf.TensorSpec) -> Callable[..., None]:
    var, m = (tf.Variable(tf.zeros(spec.shape)) for _ in range(2))
    return lambda grad, ids, *rates: ops.resource_sparse_apply_lion(
        var, m, *rates, grad, ids
    )


def _save(
    path: Path,
    function: Callable[..., Any],
    specs: tuple[tf.TensorSpec, ...],
    platform: str | None = None,
) -> None:
    lower = tf.function(
        function, jit_compile=True
    ).experimental_get_compiler_ir(*specs)
    if platform is None:
        text = lower(stage="optimized_hlo")
    elif path.suffix == ".pb":
        text = lower(stage="hlo_serialized", platform_name=platform)
    else:
        text = lower(stage="hlo", platform_name=platform)
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(content)
    print(f"{path}  {len(content):,} bytes")


def _register_tpu() -> None:
    """Lets TensorFlow lower for a TPU where it has none.

    Without a TPU's library nothing, not even a product, lowers for "TPU",
    for want of a list of the types that the backend knows. It is taken before
    the process's first XLA compilation only, and has no public Python name.
    """
    library = ctypes.CDLL(
        str(Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2")
    )
    string = "ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    registry = "_ZN10tensorflow13XlaOpRegistry"
    span = "N4absl12lts_202508144SpanIKNS_8DataTypeEEE"
    registered = library[f"{registry}19IsBackendRegistered{string}"]
    register = library[
        f"{registry}15RegisterBackend{string}{span}PFbPNS_9KernelDefEE"
    ]
    registered.restype = ctypes.c_bool
    name = _String(b"XLA_TPU_JIT", 11)
    if registered(ctypes.byref(name)):
        return
    numbers = [
        dtype.as_datatype_enum
        for dtype in (
            *(tf.float32, tf.float64, tf.bfloat16, tf.float16, tf.bool),
            *(tf.int8, tf.int16, tf.int32, tf.int64),
            *(tf.uint8, tf.uint16, tf.uint32, tf.uint64),
        )
    ]
    array = (ctypes.c_int * len(numbers))(*numbers)
    register(ctypes.byref(name), array, ctypes.c_size_t(len(numbers)), None)


class _String(ctypes.Structure):
    # As libstdc++ lays out a std::string.
    _fields_ = [
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_size_t),
        ("local", ctypes.c_char * 16),
    ]


if __name__ == "__main__":
    main()
