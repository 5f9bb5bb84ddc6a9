"""Intervals of a comparison, by the Evaluator's metrics and bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.evaluator import bootstrap
from components.evaluator.measured import Sample, measure
from models.config.labels import CTR, Label, outputs
from models.training.label_losses import known

METRICS = ("auc", "pr_auc", "logloss", "normalized_entropy", "calibration")
_DIGITS = 9  # of a replicate that is kept


@dataclass(frozen=True)
class TestRows:
    """The rows that all are judged on.

    labels: 0 or 1; float64 [N]. groups: 0, 1, ... and -1 for none; [N], or
    None. replicates: number of draws, the same for all. weights: [N]; None: 1
    each. rows: of the split, which these are; None: all.
    """

    labels: npt.NDArray[np.float64]
    groups: npt.NDArray[np.int64] | None
    replicates: int
    weights: npt.NDArray[np.float32] | None = None
    rows: npt.NDArray[np.int64] | None = None

    def measure(self, predictions: npt.NDArray[np.float64]) -> dict[str, Any]:
        """Metric -> value, and metric -> replicates, as the Evaluator's.

        Args:
            predictions: of all rows of the split.
        """
        if self.rows is not None:
            predictions = predictions[self.rows]
        count = len(self.labels)
        if not count:
            nothing = dict.fromkeys(METRICS, float("nan"))
            return {"test": nothing, "replicates": {}}
        sample = Sample(
            self.labels,
            bootstrap.units(count, self.groups),
            np.ones(count)
            if self.weights is None
            else self.weights.astype(np.float64),
            self.groups,
        )
        found = measure(
            sample,
            predictions.astype(np.float32),  # as the export gives them
            bootstrap.draws(self.replicates),
            {},
            10,
        )
        return {
            "test": {name: found.values[name] for name in METRICS},
            "replicates": {
                name: [float(f"{x:.{_DIGITS}g}") for x in drawn]
                for name, drawn in found.replicates.items()
                if name in METRICS
            },
        }


def outputs_of(
    labels: Sequence[Label],
    values: npt.NDArray[Any],
    weights: npt.NDArray[np.float32] | None,
    groups: npt.NDArray[np.int64] | None,
    replicates: int,
) -> dict[str, TestRows]:
    """Output -> the rows of a split that it is judged on.

    Args:
        labels: of the model; () where there is one.
        values: of the labels, [N, labels], or [N] of one.
        weights: of the rows; None: 1 each.
        groups: hashes of their groups, -1 for none; None: there are none.
        replicates: number of draws.
    """
    if not labels:
        whole = values.astype(np.float64)
        return {CTR: TestRows(whole, _codes(groups), replicates, weights)}
    found = {}
    for output in outputs(labels):
        rows, own = known(output, values.astype(np.float64))
        found[output.name] = TestRows(
            own,
            _codes(None if groups is None else groups[rows]),
            replicates,
            None if weights is None else weights[rows],
            rows,
        )
    return found


def _codes(
    groups: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.int64] | None:
    if groups is None:
        return None
    values, codes = np.unique(groups, return_inverse=True)
    found: npt.NDArray[np.int64] = codes - int((values == -1).any())
    return found


def judge(
    lines: Mapping[str, dict[str, Any]], first: str, confidence: float
) -> None:
    """Puts intervals, and differences to the line `first`, into the lines.

    Intervals are of the mean over the seeds. All lines share the draws of the
    rows, so a difference is paired.

    Args:
        lines: label -> what was reached; its `replicates` are taken out.
        first: label of the line that others are compared with.
        confidence: of the intervals.
    """
    drawn = {
        label: _mean(one.pop("replicates")) for label, one in lines.items()
    }
    base = lines[first]
    for label, one in lines.items():
        one["intervals"], one["difference"] = {}, {}
        for metric, found in one["test"].items():
            own, its = drawn[label].get(metric), drawn[first].get(metric)
            one["intervals"][metric] = _interval(found["mean"], own, confidence)
            if label == first or not base["test"]:
                continue
            apart = found["mean"] - base["test"][metric]["mean"]
            both = None if own is None or its is None else own - its
            one["difference"][metric] = {
                "mean": apart,
                "interval": _interval(apart, both, confidence),
            }


def _mean(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Metric -> replicates of the mean over the seeds."""
    names = records[0] if records else {}
    return {
        name: np.mean([record[name] for record in records], axis=0)
        for name in names
    }


def _interval(
    value: float, replicates: Any, confidence: float
) -> list[float] | None:
    if replicates is None:
        return None
    (ends,) = bootstrap.intervals(
        np.array([value]), replicates[None].copy(), confidence
    ).tolist()
    return None if np.isnan(ends[0]) else list(ends)
