"""The model's own predictions: the exported graph, called in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.config.labels import CTR
from models.errors import RefusedError

_SIGNATURE = "examples"


def predictions(
    model: str, serialized: Sequence[bytes], names: Sequence[str] = (CTR,)
) -> npt.NDArray[np.float64]:
    """Probabilities by `examples`, as the Evaluator calls it; [N, outputs].

    On the CPU, as the server that is asked.

    Args:
        model: folder of the SavedModel.
        serialized: the examples.
        names: of the outputs.

    Raises:
        RefusedError: there is no such signature.
    """
    with tf.device("/CPU:0"):
        loaded = tf.saved_model.load(model)
        signature = loaded.signatures.get(_SIGNATURE)
        if signature is None:
            raise RefusedError(f"the model has no signature {_SIGNATURE!r}")
        (argument,) = signature.structured_input_signature[1]
        found = signature(**{argument: tf.constant(list(serialized))})
        columns = [found[name].numpy().reshape(-1) for name in names]
        return np.stack(columns, 1).astype(np.float64)


def faults(expected: npt.NDArray[np.float64], split: str) -> list[str]:
    """Faults of the predictions themselves, in words."""
    if not len(expected):
        return [
            (
                f"the {split} split has no row to ask the server: none, or none"
                " without a list whose values hold its separator"
            )
        ]
    bad = ~np.isfinite(expected.reshape(len(expected), -1)).all(axis=1)
    if not bad.any():
        return []
    row = int(np.argmax(bad))
    first = next(one for one in expected[row].ravel() if not np.isfinite(one))
    return [
        (
            f"the model gives no finite number for {int(bad.sum())} of"
            f" {len(expected)} rows of the {split} split; row {row} is"
            f" {first}"
        )
    ]
