"""The output's bias, where negatives are sampled otherwise than before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

OUTPUT = "model/deep/out/bias"


def move_bias(
    named: Mapping[str, Any], anew: Collection[str], by: float
) -> None:
    """Adds `by` to the bias OUTPUT, and to its moving average.

    FTRL computes a weight from its slot `linear`, which is proportional to
    it (without L1): that is scaled alike, or the next step would undo this.

    Args:
        named: weights and slots, see `models.variables.named_variables`.
        anew: names of those that were not carried.
        by: difference of logits.
    """
    bias = OUTPUT.removeprefix("model/")
    before = named[OUTPUT].numpy()
    for name, variable in named.items():
        if name in anew or bias not in name.replace("_", "/"):
            continue
        if is_weight(name):
            variable.assign(variable.numpy() + by)
        elif "linear" in name and before.all():
            variable.assign(variable.numpy() * (1 + by / before))


def is_weight(name: str) -> bool:
    """True for a bias of the model, or a moving average of one."""
    plain = name.removesuffix(":0")
    average = plain.startswith("optimizer/average/")  # Keras 2
    return plain[:6] == "model/" or average or plain.endswith("_average")
