"""Training data to the batches of each epoch, for one device or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def passes(data: Any, strategy: Any) -> Callable[[int, int], Any]:
    """(epoch, batches to leave out) -> the batches for this process."""
    if strategy.num_replicas_in_sync == 1:
        if not hasattr(data, "epoch"):
            return lambda epoch, skip: data.skip(skip)
        return lambda epoch, skip: data.epoch(epoch, skip)
    if not hasattr(data, "epoch"):
        raise ValueError(
            "`train_data` must be `models.inputs.Batches` where there are"
            f" several replicas. Received: {data!r}"
        )
    # Replicas have equally many batches, and steps are counted.
    strategy.extended.experimental_enable_get_next_as_optional = False

    def distributed(epoch: int, skip: int) -> Any:
        def here(context: Any) -> Any:
            replicas = context.num_replicas_in_sync
            each = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * each
            pieces = range(first, first + each)
            return data.epoch(epoch, skip, pieces, replicas)

        return strategy.distribute_datasets_from_function(here)

    return distributed
