"""Demands on every metric and every gate, ours and a user's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from components.evaluator import gates
from components.evaluator.config import EvaluateConfig, Gate
from components.evaluator.evaluation import evaluate, undefined_for
from components.evaluator.predictions import Columns, Values
from models.config import metric_registry

_ROWS = 400
_GROUPS = 40
_SEED = 7
_LOOSE = {"max_change": 10.0}  # a bound, so that the metric is computed


def check_metric(name: str) -> None:
    """Puts a metric through the demands of an evaluation.

    Args:
        name: as in the config, such as "my_metrics:Bias".

    Raises:
        AssertionError: it says which demand is not met.
        InputError: the metric cannot be had or made.
    """
    rows = _rows()
    if metric_registry.METRICS.is_own(name):
        _check_shapes(rows, name)
    entry = _report(rows, name)["metrics"][name]
    value, (low, high) = entry["value"], metric_registry.limits(name)
    assert value is not None, f"it is undefined: {entry['undefined']}"
    assert low <= value <= high, f"{value} is not in [{low:g}, {high:g}]"
    order = np.random.default_rng(_SEED).permutation(_ROWS)
    assert np.isclose(_value(rows.take(order), name), value), (
        "it depends on the order of the rows"
    )
    assert entry["difference"] == 0, "two equal models differ"
    assert entry["difference_interval"] in (None, [0, 0]), (
        "replicates of two equal models differ"
    )
    _check_weights(rows, name)
    _check_side(rows, name)
    for part in (rows.labels, ~rows.labels, np.zeros(_ROWS, bool)):
        _check_undefined(rows.take(np.flatnonzero(part)), name)


def check_gate(name: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Puts a gate through the reports that an evaluation may give.

    Args:
        name: as in the config, such as "my_gates:enough_days".
        arguments: of the function, besides the report.

    Raises:
        AssertionError: it says which demand is not met.
        InputError: the gate cannot be had, raises, or returns no lines.
    """
    gate = Gate.model_validate({"name": name, **(arguments or {})})
    rows = _rows()
    reports = [
        _report(rows),
        _report(rows, baseline=False),
        _report(rows.take(np.flatnonzero(rows.labels))),  # undefined values
    ]
    for report in reports:
        before = copy.deepcopy(report)
        lines = gates.reasons(gate, report)
        assert report == before, "it changes the report"
        again = gates.reasons(gate, report)
        assert lines == again, f"it says {lines}, then {again}, of one report"
        for line in lines:
            assert line.strip() and "\n" not in line, f"{line!r} is no line"


class _Rows(NamedTuple):
    labels: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]
    devices: npt.NDArray[np.int32]

    def take(self, index: npt.NDArray[np.int64]) -> _Rows:
        return _Rows(
            self.labels[index],
            self.probabilities[index],
            self.groups[index],
            self.devices[index],
        )


def _rows() -> _Rows:
    rng = np.random.default_rng(_SEED)
    probabilities = rng.uniform(0.05, 0.6, _ROWS).astype(np.float32)
    return _Rows(
        rng.random(_ROWS) < probabilities,
        probabilities,
        np.arange(_ROWS, dtype=np.int64) % _GROUPS,
        rng.integers(0, 2, _ROWS, np.int32),
    )


def _report(
    rows: _Rows,
    name: str = "logloss",
    weights: npt.ArrayLike | None = None,
    baseline: bool = True,
) -> dict[str, Any]:
    """An evaluation of a model, and of itself as the baseline."""
    config = EvaluateConfig.model_validate(
        {
            "metrics": {name: _LOOSE},
            "slices": [["device"]],
            "group": "user",
            "k": 3,
            "replicates": 100,
        }
    )
    count = np.arange(len(rows.labels))
    devices = Values(count, rows.devices, ["tv", "pc"])
    columns = Columns(
        rows.labels,
        (rows.probabilities,) * (1 + baseline),
        rows.groups,
        {"device": devices},
    )
    return evaluate(columns, config, "eval", weights)


def _value(
    rows: _Rows, name: str, weights: npt.ArrayLike | None = None
) -> float:
    value = _report(rows, name, weights)["metrics"][name]["value"]
    return float("nan") if value is None else float(value)


def _check_shapes(rows: _Rows, name: str) -> None:
    """Terms are a row each; the value of many sums is an array of values."""
    metric = metric_registry.own(name)
    labels = rows.labels.astype(np.float64)
    terms = np.asarray(metric.terms(labels, rows.probabilities + 0.0))
    assert terms.ndim == 2 and len(terms) == _ROWS, (
        f"terms must be [rows, K]. Received: {list(terms.shape)}"
    )
    sums = np.concatenate([[_ROWS], terms.sum(0)])
    values = np.asarray(metric.value(np.stack([sums, sums])))
    assert values.shape == (2,), (
        f"value of [2, 1 + K] must be [2]. Received: {list(values.shape)}"
    )


def _check_weights(rows: _Rows, name: str) -> None:
    """A row of weight 2 counts as two rows."""
    metric = metric_registry.REGISTERED.get(name)
    if metric and (metric.needs == "group" or name in metric_registry.COUNTS):
        return  # ranks and counts are those of the rows
    half = np.arange(_ROWS) < _ROWS // 2
    twice = rows.take(np.r_[np.arange(_ROWS), np.flatnonzero(half)])
    assert np.isclose(_value(rows, name, 1.0 + half), _value(twice, name)), (
        "a row of weight 2 does not count as two rows"
    )


def _check_undefined(rows: _Rows, name: str) -> None:
    """Rows that lack what a metric needs have no value, others have one."""
    entry = _report(rows, name)["metrics"][name]
    metric = metric_registry.REGISTERED.get(name)
    if (
        metric
        and metric.needs != "group"
        and name not in metric_registry.COUNTS
    ):
        lacks = undefined_for(
            len(rows.labels), int(rows.labels.sum()), metric.needs
        )
        assert (entry["value"] is None) == bool(lacks), (
            f"it is {entry['value']} of rows that have {lacks or 'all'}"
        )


def _check_side(rows: _Rows, name: str) -> None:
    """A model that knows the labels is better than one that says the other."""
    metric = metric_registry.REGISTERED.get(name)
    better = metric.better if metric else ""
    if better not in ("higher", "lower"):
        return
    right = np.where(rows.labels, 0.99, 0.01) - rows.probabilities / 1e3
    right = right.astype(np.float32)
    values = [
        _value(rows._replace(probabilities=p), name) for p in (right, 1 - right)
    ]
    low, high = metric_registry.limits(name)
    for value in values:
        assert low <= value <= high, f"{value} is not in [{low:g}, {high:g}]"
    is_better = values[0] > values[1]
    assert is_better == (better == "higher"), (
        f"{better} is better, yet the right model has {values[0]:g}, the wrong"
        f" one {values[1]:g}"
    )
