"""Variables that a tf.distribute strategy keeps once per device."""

from __future__ import annotations

import tensorflow as tf


def mirrors_variables() -> bool:
    """Whether the strategy in scope keeps every variable on each device."""
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
