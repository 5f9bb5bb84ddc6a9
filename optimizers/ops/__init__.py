"""Lion at the level of TensorFlow ops, for use without Keras.

The ops of the library run if it is built and fits, else TensorFlow, which
gives the same numbers. TensorFlow is imported by the first call.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "lion_update",
    "resource_apply_lion",
    "resource_sparse_apply_decayed_lion",
    "resource_sparse_apply_lion",
    "sparse_lion_update",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("optimizers.ops.custom_op"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
