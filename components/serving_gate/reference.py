"""The model's own predictions: the exported graph, called in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.errors import RefusedError

_SIGNATURE = "examples"


def predictions(
    model: str, serialized: Sequence[bytes]
) -> npt.NDArray[np.float64]:
    """Probabilities by `examples`, as the Evaluator calls it; [N].

    On the CPU, as the server that is asked.

    Raises:
        RefusedError: there is no such signature.
    """
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(model)
        signature = loaded.signatures.get(_SIGNATURE)
        if signature is None:
            raise RefusedError(f"the model has no signature {_SIGNATURE!r}")
        (argument,) = signature.structured_input_signature[1]
        found = signature(**{argument: tf.constant(list(serialized))})["ctr"]
        return found.numpy().astype(np.float64).reshape(-1)


def faults(expected: npt.NDArray[np.float64], split: str) -> list[str]:
    """Faults of the predictions themselves, in words."""
    if not len(expected):
        return [
            (
                f"the {split} split has no row to ask the server: none, or none"
                " without a list whose values hold its separator"
            )
        ]
    bad = ~np.isfinite(expected)
    if not bad.any():
        return []
    row = int(np.argmax(bad))
    return [
        (
            f"the model gives no finite number for {int(bad.sum())} of"
            f" {len(bad)} rows of the {split} split; row {row} is"
            f" {expected[row]}"
        )
    ]
