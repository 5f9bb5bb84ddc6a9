"""Lion for Keras 3, and optimizers built from a pipeline's configuration.

Lion for Keras 2 is `optimizers.tf_keras.Lion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimizers.kernel import kernel_status
from optimizers.registry import (
    build_optimizer,
    learning_rates,
    names,
    resolved,
    slot_bytes,
    used,
    validate,
)

if TYPE_CHECKING:
    from optimizers import tf_keras
    from optimizers.config.schedules import WarmupDecay
    from optimizers.groups import GroupedOptimizer
    from optimizers.lion import Lion

__all__ = [
    "GroupedOptimizer",
    "Lion",
    "WarmupDecay",
    "build_optimizer",
    "kernel_status",
    "learning_rates",
    "names",
    "resolved",
    "slot_bytes",
    "tf_keras",
    "used",
    "validate",
]

# These import Keras, which takes seconds; a config is validated without them.
_LAZY = {
    "GroupedOptimizer": "optimizers.groups",
    "Lion": "optimizers.lion",
    "WarmupDecay": "optimizers.config.schedules",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "tf_keras":
        return import_module("optimizers.tf_keras")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
