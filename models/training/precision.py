"""`train.precision: auto`: the numbers that this machine multiplies fastest."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
_CAPABILITY = (8, 0)  # of the first NVIDIA GPUs that multiply bfloat16


def fastest() -> tuple[str, str]:
    """The dtype policy to train with on this machine, and the reason.

    Mixed precision multiplies in bfloat16 and keeps weights in float32. It
    pays where the hardware multiplies bfloat16, and is slower elsewhere.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("TPU"):
        return "mixed_bfloat16", "a TPU multiplies bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        found = [tf.config.experimental.get_device_details(g) for g in gpus]
        least = min(d.get("compute_capability", (0, 0)) for d in found)
        return of_gpu(least)
    return of_cpu(cpu_flags())


def of_gpu(capability: tuple[int, int]) -> tuple[str, str]:
    """The policy for GPUs of this CUDA compute capability, and the reason."""
    shown = ".".join(map(str, capability))
    if capability >= _CAPABILITY:
        return "mixed_bfloat16", f"a GPU of compute capability {shown}"
    return "float32", f"a GPU of compute capability {shown}, below 8.0"


def of_cpu(flags: Collection[str]) -> tuple[str, str]:
    """The policy for a processor with these flags, and the reason."""
    for name in _INSTRUCTIONS:
        if name in flags:
            return "mixed_bfloat16", f"the processor has {name}"
    return "float32", "the processor has neither " + " nor ".join(_INSTRUCTIONS)


def cpu_flags() -> frozenset[str]:
    """The processor's flags as Linux reports them; none elsewhere."""
    try:
        text = _CPU_INFO.read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
