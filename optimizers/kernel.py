"""Which implementation of Lion's rule runs, and why."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

KERNELS = ("auto", "custom_op", "xla", "python")


def kernel_status() -> tuple[str, str]:
    """Returns the kernel that `kernel="auto"` means here, and the reason.

    Imports TensorFlow only where there may be an accelerator.
    """
    library, reason = _library()
    if library is None:
        return (
            "python",
            (
                f"the op library cannot be used: {reason}; pure TensorFlow"
                f" gives the same numbers (`{_build().COMMAND}` builds it)"
            ),
        )
    accelerator = _accelerator()
    if accelerator is None:
        return "custom_op", f"{library} ({reason})"
    if _build().XLA_SOURCE.exists():
        return "xla", f"{library} ({reason}), for the {accelerator}"
    return "python", f"the op library has no kernels for the {accelerator}"


def resolve_kernel(kernel: str) -> str:
    """Returns the kernel that runs when `kernel` is asked for.

    Raises:
        ValueError: `kernel` is unknown, or cannot run here.
    """
    if kernel not in KERNELS:
        raise ValueError(
            f"`kernel` must be one of {', '.join(map(repr, KERNELS))}. "
            f"Received: {kernel!r}"
        )
    if kernel == "auto":
        return kernel_status()[0]
    if kernel == "custom_op":
        library, reason = _library()
        if library is None:
            raise ValueError(
                "`kernel` 'custom_op' needs the op library, which cannot be "
                f"used: {reason}. `{_build().COMMAND}` builds it. Accepted "
                f"without it: 'auto', 'xla', 'python'. Received: {kernel!r}"
            )
    return kernel


def _library() -> tuple[str | None, str]:
    """The library's name, or None and why, as far as is known by now."""
    path, reason = _build().find()
    loader = sys.modules.get("optimizers.ops.library")
    if loader is not None and loader.load.cache_info().currsize:
        loaded = loader.load()
        if loaded.ops is None:
            return None, loaded.reason
    return (None if path is None else path.name), reason


def _build() -> ModuleType:
    """The builder, which `python -m` must find not imported yet."""
    from optimizers.ops import build

    return build


def _accelerator() -> str | None:
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")
    if "tensorflow" not in sys.modules and not (
        "TPU_NAME" in os.environ or any(Path(d).exists() for d in drivers)
    ):
        return None
    import tensorflow as tf

    for kind in ("TPU", "GPU"):
        if tf.config.list_logical_devices(kind):
            return kind
    return None
