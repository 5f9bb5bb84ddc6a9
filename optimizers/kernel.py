"""Which implementation of Lion's rule runs, and why."""

from __future__ import annotations

KERNELS = ("auto", "custom_op", "xla", "python")

_NOT_BUILT = "the custom ops (CPU kernels and XLA lowering) are not built yet"


def kernel_status() -> tuple[str, str]:
    """Returns the kernel that `kernel="auto"` means here, and the reason."""
    return "python", f"{_NOT_BUILT}; pure TensorFlow gives the same numbers"


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
    if kernel in ("custom_op", "xla"):
        raise ValueError(
            f"`kernel` {kernel!r} comes with the custom ops, and {_NOT_BUILT}. "
            f"Accepted now: 'auto', 'python'. Received: {kernel!r}"
        )
    return kernel_status()[0] if kernel == "auto" else kernel
