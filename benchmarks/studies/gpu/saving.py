"""Save functions as HLO for a GPU or a TPU; neither is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf


def save(
    path: Path,
    function: Callable[..., Any],
    specs: tuple[tf.TensorSpec, ...],
    platform: str,
) -> None:
    """Write a function's HLO: serialized (.pb), or as text (.txt)."""
    lower = tf.function(
        function, jit_compile=True
    ).experimental_get_compiler_ir(*specs)
    if path.suffix == ".pb":
        content = lower(stage="hlo_serialized", platform_name=platform)
    else:
        content = lower(stage="hlo", platform_name=platform).encode()
    path.write_bytes(content)
    print(f"{path}  {len(content):,} bytes")


def register_tpu() -> None:
    """Let TensorFlow lower for a TPU where it has none.

    Without a TPU's library nothing, not even a product, lowers for "TPU",
    for want of a list of the types that the backend knows. TensorFlow takes the
    list before the process's first XLA compilation only, by a C++ call.
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
