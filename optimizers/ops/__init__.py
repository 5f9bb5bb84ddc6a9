"""Lion at the level of TensorFlow ops, for use without Keras."""

from optimizers.ops.fallback import (
    lion_update,
    resource_apply_lion,
    resource_sparse_apply_decayed_lion,
    resource_sparse_apply_lion,
)

__all__ = [
    "lion_update",
    "resource_apply_lion",
    "resource_sparse_apply_decayed_lion",
    "resource_sparse_apply_lion",
]
