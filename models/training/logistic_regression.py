"""Logistic regression: the line that any other model has to beat.

It has a weight of each id, also of crosses, and of each number. The fit is
exact, see `linear_fit`; eval rows choose the penalty, as of a linear start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.config.labels import Label
from models.config.training import Negatives
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import Layout
from models.training.label_losses import rows_of_labels
from models.training.linear_fit import Floats, Rows
from models.training.linear_start import best, places, rows_of, scale_of

_VALUES = 100_000_000  # ids and numbers in memory


@dataclass(frozen=True)
class Regression:
    """A regression of each label.

    layout, first, size: of the inputs. shifts: for negatives that training did
    not see. weights: of ids, numbers and the bias. penalties: chosen. rows:
    that it was fitted on.
    """

    layout: Layout
    first: Mapping[str, int]
    size: int
    shifts: Sequence[float]
    weights: Sequence[Floats]
    penalties: Sequence[float]
    rows: int

    def logits(self, data: Any) -> Floats:
        """Logits [N, labels] of all rows of `data`, of all negatives."""
        found = [
            [
                rows.logits(weights) + shift
                for weights, shift in zip(
                    self.weights, self.shifts, strict=True
                )
            ]
            for batch in data
            for rows in [
                rows_of([batch], self.layout, self.first, self.size, 1.0)
            ]
        ]
        return np.concatenate([np.stack(one, 1) for one in found])


def fit(
    layout: Layout,
    keys: Mapping[str, Keys],
    labels: Sequence[Label],
    train: Any,
    held_out: Any,
    negatives: Negatives,
    count: int,
) -> Regression:
    """Fits the log loss of each label, on the rows where it counts.

    Of more rows than memory holds it takes batches at even distances.

    Args:
        layout: of the inputs.
        keys: feature -> meaning of its ids.
        labels: of the rows; () where there is one.
        train: batches of (inputs, label), and perhaps the rows' weights.
        held_out: the same, of the eval split.
        negatives: which of them `train` has; `held_out` has all.
        count: of the rows of `train`.
    """
    first, size = places(layout)
    width = len(first) + len(layout.dense)
    share = min(1.0, _VALUES / max(1, width * count))

    def read(data: Any, weight: float) -> list[Rows]:
        values: list[Floats] = []

        def watched() -> Iterator[Any]:
            for batch in data:
                values.append(batch[1].numpy())
                yield batch

        rows = rows_of(watched(), layout, first, size, weight)
        return _of_labels(rows, labels, np.concatenate(values))

    parts = read(_thinned(train, share), negatives.weight)
    judged = read(held_out, 1.0)
    shifts = [negatives.shift] + [0.0] * (len(parts) - 1)
    found = [
        best(rows, others, scale_of(rows, first, keys), shift)
        for rows, others, shift in zip(parts, judged, shifts, strict=True)
    ]
    return Regression(
        layout,
        first,
        size,
        shifts,
        [weights for _, weights in found],
        [penalty for penalty, _ in found],
        len(parts[0].label),
    )


def _of_labels(
    rows: Rows, labels: Sequence[Label], values: Floats
) -> list[Rows]:
    """The rows where each label counts, with that label.

    Args:
        rows: all of them.
        labels: in order; () where there is one.
        values: of them, [N, labels].
    """
    if not labels:
        return [rows]
    found = []
    for number, counts in enumerate(rows_of_labels(labels, values)):
        taken = np.zeros(len(values), np.bool_)
        taken[counts] = True
        own = values[counts, number].astype(np.float64)
        found.append(replace(rows.part(taken), label=own))
    return found


def _thinned(data: Any, share: float) -> Iterator[Any]:
    """A share of the batches, at even distances."""
    for number, batch in enumerate(data):
        if int((number + 1) * share) > int(number * share):
            yield batch
