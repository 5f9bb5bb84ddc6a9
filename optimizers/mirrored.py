"""Variables that a tf.distribute strategy keeps once per device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def mirrors_variables() -> bool:
    """True if the strategy in scope keeps every variable on each device."""
    return isinstance(
        tf.distribute.get_strategy(),
        (
            tf.distribute.MirroredStrategy,
            tf.distribute.MultiWorkerMirroredStrategy,
        ),
    )


def on_this_device(variable: tf.Variable) -> tf.Variable:
    """Returns the copy of a mirrored variable that is to be updated.

    tf.gather reads a mirrored variable whole, and a tf.function takes none;
    both are fine with the copy. Any other variable stays itself.
    """
    strategy = tf.distribute.get_strategy()
    for replica in strategy.experimental_local_results(variable):
        if replica.device == variable.device:
            return replica
    return variable


def sum_gradients_first(optimizer: Any) -> Any:
    """Makes a stock Keras optimizer clip what all replicas found together.

    Keras 3 clips and accumulates on each replica and sums afterwards, which
    gives other weights than one device with the whole batch. Here the sum
    comes first; tf.IndexedSlices are gathered, not made dense.
    """
    apply = optimizer._backend_apply_gradients

    def sum_and_apply(
        grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> None:
        if mirrors_variables():
            context = tf.distribute.get_replica_context()
            grads = context.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        apply(grads, trainable_variables)

    optimizer._backend_apply_gradients = sum_and_apply
    optimizer._all_reduce_sum_gradients = lambda pairs: pairs
    return optimizer
