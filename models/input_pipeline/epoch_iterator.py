"""Training data to the batches of all epochs, for one device or several."""

from __future__ import annotations

from typing import Any

from models.config.training import TrainConfig
from models.input_pipeline.dataset import Batches, steps_of


class EpochIterator:
    """Passes over training data, which is read ahead across their borders.

    Args:
        data: `Batches`, or a dataset that is read again each epoch.
        rows: of a pass over a dataset; `Batches` know theirs.
        config: the config section.
        strategy: where the replicas are.

    Raises:
        ValueError: the data cannot be shared by replicas.
    """

    def __init__(
        self, data: Any, rows: int, config: TrainConfig, strategy: Any
    ) -> None:
        self._data = data
        self._epochs = config.epochs
        self._strategy = strategy
        self._iterator: Any = None
        whole = isinstance(data, Batches)
        steps = data.steps if whole else steps_of(rows, config.batch_size)
        self.steps = max(1, steps)
        if strategy.num_replicas_in_sync == 1:
            return
        if not whole:
            raise ValueError(
                "`train_data` must be `models.input_pipeline.dataset.Batches`"
                f" where there are several replicas. Received: {data!r}"
            )
        # Replicas have equally many batches, and steps are counted.
        strategy.extended.experimental_enable_get_next_as_optional = False

    def at(self, step: int) -> Any:
        """An iterator over batches from this step to its epoch's end, or on.

        To be asked for once an epoch, after all before `step` was taken.
        """
        epoch, skip = divmod(step, self.steps)
        if not isinstance(self._data, Batches):
            return iter(self._data.skip(skip))
        if self._iterator is None:
            self._iterator = iter(self._stream(self._data, epoch, skip))
        return self._iterator

    def _stream(self, data: Batches, epoch: int, skip: int) -> Any:
        left = self._epochs - epoch
        if self._strategy.num_replicas_in_sync == 1:
            return data.stream(epoch, skip, epochs=left)

        def here(context: Any) -> Any:
            replicas = context.num_replicas_in_sync
            each = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * each
            pieces = range(first, first + each)
            return data.stream(epoch, skip, pieces, replicas, left)

        return self._strategy.distribute_datasets_from_function(here)
