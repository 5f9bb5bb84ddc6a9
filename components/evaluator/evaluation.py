"""Evaluation of a candidate, and of a baseline beside it, as one JSON object.

`evaluation.json`, beside TFMA's files; a number that is undefined is null:

    version         1
    split           "eval" or "test": whose rows these are
    models          ["candidate"] or ["candidate", "baseline"]
    rows, positives
    weights         null, or {"rows", "positives": sums of their weights}; all
                    metrics, intervals and curves are then weighted
    base_rate       share of positives
    constant        {"logloss": of the model that always says the base rate}
    confidence      of every interval, 0.95
    bootstrap       {"replicates", "unit": "row" or the group's column, "units"}
    metrics         metric -> ENTRY
    slices          [{"key": {column: value}, "name": "device=tv", "rows",
                      "positives", "weights", "metrics": metric -> ENTRY}]
    as_served       null, or metric -> ENTRY of the candidate, served with what
                    stands for features of training alone; all else is of
                    the rows as they were logged
    calibration     null, or of a candidate that is calibrated {"metrics",
                    "slices": of `calibrate.by`, as above; the baseline in them
                    is the same candidate before it is calibrated,
                    "reliability": of that one, as below}
    groups          null, or {"column", "k", "left_out": share of impressions in
                    groups of one label, which GAUC does not see,
                    "no_group": share of the rows without a value}
    curves          model -> {
                      "reliability": [{"rows", "prediction", "label",
                        "interval": of the label}], by quantile of prediction,
                      "histogram": {"edges": [n + 1], "negatives": [n],
                        "positives": [n]}, edges are probabilities, equally
                        far apart in log-odds,
                      "roc": {"fpr", "tpr", "threshold"}, each [m],
                      "pr": {"recall", "precision", "threshold"}, each [m],
                      "time": {"hours": of a span, "spans": [{"start": UTC,
                        "rows", "positives", "prediction", "label", "interval":
                        of the label, "calibration", "calibration_interval"}]},
                        of rows that have a time}
    gate            see `gate.judge`
    outputs         {}, or of a model of several labels output after the first
                    -> all of this but `importance`, with "label", its name, of
                    the rows where it counts; `gate` above is of all outputs
    importance      see `importance`; where the config asks for it

    ENTRY           {"value", "interval": [low, high] or null,
                     "undefined": in words, where the value is null,
                     and with a baseline: "baseline", "baseline_interval",
                     "difference", "difference_interval" (paired)}
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from components.evaluator import bootstrap, curves
from components.evaluator.config import EvaluateConfig
from components.evaluator.measured import Measured, Sample, measure
from components.evaluator.predictions import Columns, Value
from components.evaluator.slicing import Key, Rows, slices
from models.config import metric_registry
from models.training.metrics import entropy

FILE = "evaluation.json"
_THREADS = min(4, os.cpu_count() or 1)
MAX_SLICES = 1000  # of a slicing, the largest, have intervals
Metrics = dict[str, dict[str, Any]]


def evaluate(
    columns: Columns,
    config: EvaluateConfig,
    split: str,
    weights: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """All that is known of the models, but the gate.

    Args:
        columns: rows, with the candidate's predictions first, and then those
            of the baseline, where there is one.
        config: the config section.
        split: name of the rows.
        weights: of the rows, [N]; by default those of `columns`, or 1 each.
    """
    if weights is None:
        weights = columns.weights
    evaluation = _Evaluation(columns, config, split, weights)
    return evaluation.report()


class _Evaluation:
    """Rows and models that the metrics of every slice are computed of."""

    def __init__(
        self,
        columns: Columns,
        config: EvaluateConfig,
        split: str,
        weights: npt.ArrayLike | None,
    ) -> None:
        self._columns = columns
        self._weighted = weights is not None
        self._config = config
        self._split = split
        count = len(columns.labels)
        groups = columns.groups
        if groups is not None:
            values, codes = np.unique(groups, return_inverse=True)
            groups = codes - int((values == -1).any())  # no group is -1 again
        self._sample = Sample(
            columns.labels.astype(np.float64),
            bootstrap.units(count, groups),
            np.ones(count)
            if weights is None
            else np.asarray(weights, np.float64),
            groups,
        )
        self._draws = bootstrap.draws(config.replicates)
        self._own = {
            name: metric_registry.own(name)
            for name in config.thresholds()
            if metric_registry.METRICS.is_own(name)
        }
        self._names = metric_registry.names_of(
            config.thresholds(), groups is not None
        )
        self._models = ("candidate", "baseline")[: len(columns.predictions)]

    def report(self) -> dict[str, Any]:
        """See the module."""
        sample, config = self._sample, self._config
        count, positives = len(sample.labels), int(sample.labels.sum())
        weights = self._weights(sample)
        rate = _ratio(positives, count)
        if weights is not None:
            rate = _ratio(weights["positives"], weights["rows"])
        where = f"the {self._split} split"
        found = self._measured(sample, self._columns.predictions)
        groups = None
        if sample.groups is not None:
            groups = {
                "column": config.group,
                "k": config.k,
                "left_out": found[0].left_out if found[0] else None,
                "no_group": _ratio(int((sample.groups < 0).sum()), count),
            }
        return {
            "version": 1,
            "split": self._split,
            "models": list(self._models),
            "rows": count,
            "positives": positives,
            "weights": weights,
            "base_rate": rate,
            "constant": {
                "logloss": None
                if rate is None
                else float(entropy(np.asarray(rate)))
            },
            "confidence": config.confidence,
            "bootstrap": {
                "replicates": config.replicates,
                "unit": config.group or "row",
                "units": len(np.unique(sample.units)),
            },
            "metrics": self._entries(
                sample, self._columns.predictions, found, where
            ),
            "slices": [
                item
                for names in self._slicings()
                for item in self._slices(names)
            ],
            "as_served": self._as_served(),
            "calibration": self._calibrated(),
            "groups": groups,
            "curves": {
                name: {
                    **curves.curves(
                        measured.scores,
                        sample,
                        predictions,
                        self._draws,
                        config.confidence,
                    ),
                    **self._hours(predictions),
                }
                for name, measured, predictions in zip(
                    self._models, found, self._columns.predictions, strict=True
                )
                if measured is not None
            },
        }

    def _weights(self, sample: Sample) -> dict[str, float] | None:
        """Sums of the weights of the rows, and of the positives."""
        if not self._weighted:
            return None
        return {
            "rows": float(sample.weights.sum()),
            "positives": float(sample.weights @ sample.labels),
        }

    def _hours(
        self, predictions: npt.NDArray[np.float32]
    ) -> dict[str, dict[str, Any]]:
        """The course of time, of rows that have one."""
        if self._columns.hours is None:
            return {}
        found = curves.hours(
            self._sample,
            predictions,
            self._columns.hours,
            self._draws,
            self._config.confidence,
        )
        return {"time": found}

    def _as_served(self) -> Metrics | None:
        served = self._columns.served
        if served is None:
            return None
        alone = copy.copy(self)
        alone._models = ("candidate",)
        found = self._measured(self._sample, (served,))
        where = f"the {self._split} split"
        return alone._entries(self._sample, (served,), found, where)

    def _calibrated(self) -> dict[str, Any] | None:
        """The candidate, with itself before it is calibrated as baseline."""
        columns, asked = self._columns, self._config.calibrate
        if columns.uncalibrated is None or np.array_equal(
            columns.uncalibrated, columns.predictions[0]
        ):  # of several labels, one whose rows fitted none
            return None
        pair = dataclasses.replace(
            columns,
            predictions=(columns.predictions[0], columns.uncalibrated),
            served=None,
            uncalibrated=None,
            hours=None,
        )
        by = () if asked is None or asked.by is None else ((asked.by,),)
        config = self._config.model_copy(update={"slices": by})
        weights = self._sample.weights if self._weighted else None
        found = evaluate(pair, config, self._split, weights)
        before = found["curves"].get("baseline", {})
        return {
            "metrics": found["metrics"],
            "slices": found["slices"],
            "reliability": before.get("reliability", []),
        }

    def _slicings(self) -> list[tuple[str, ...]]:
        """Each set of columns once; none is the overall slice, which is."""
        sets = [tuple(sorted(set(names))) for names in self._config.slices]
        return [names for names in dict.fromkeys(sets) if names]

    def _slices(self, names: Sequence[str]) -> list[dict[str, Any]]:
        found = list(slices(names, self._columns.slices))
        # Replicates go to the slices of most rows.
        largest = sorted(range(len(found)), key=lambda i: -len(found[i][1]))
        drawn = set(largest[:MAX_SLICES])
        # NumPy lets other threads run; those of BLAS would only wait.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(_THREADS) as pool:
            return list(
                pool.map(
                    lambda number: self._slice(*found[number], number in drawn),
                    range(len(found)),
                )
            )

    def _slice(self, key: Key, rows: Rows, drawn: bool) -> dict[str, Any]:
        sample = self._sample[rows]
        predictions = tuple(p[rows] for p in self._columns.predictions)
        found = self._measured(sample, predictions, drawn)
        name = named(key)
        return {
            "key": dict(key),
            "name": name,
            "rows": len(rows),
            "positives": int(sample.labels.sum()),
            "weights": self._weights(sample),
            "metrics": self._entries(
                sample, predictions, found, f"the slice {name}"
            ),
        }

    def _measured(
        self,
        sample: Sample,
        predictions: Sequence[npt.NDArray[np.float32]],
        drawn: bool = True,
    ) -> list[Measured | None]:
        """Metrics of each model; None where a prediction is not a number."""
        draws = self._draws if drawn else None
        return [
            measure(sample, p, draws, self._own, self._config.k)
            if np.isfinite(p).all()
            else None
            for p in predictions
        ]

    def _entries(
        self,
        sample: Sample,
        predictions: Sequence[npt.NDArray[np.float32]],
        found: Sequence[Measured | None],
        where: str,
    ) -> Metrics:
        counts = {
            "example_count": len(sample.labels),
            "positives": int(sample.labels.sum()),
        }
        names = [name for name in self._names if name not in counts]
        entries = dict(zip(names, self._bounded(names, found), strict=True))
        for name, entry in entries.items():
            better = getattr(self._own.get(name), "better", None)
            if better:  # of the registered ones all know it
                entry["better"] = str(better)
            if entry["value"] is None:
                entry["undefined"] = _why(
                    name, sample, predictions[0], where, self._config.group
                )
        return entries | {n: self._count(c) for n, c in counts.items()}

    def _count(self, count: int) -> dict[str, Any]:
        """An entry that is the same for all models and no matter of chance."""
        entry = {"value": count, "interval": None}
        if len(self._models) > 1:
            entry |= {"baseline": count, "baseline_interval": None}
            entry |= {"difference": 0, "difference_interval": None}
        return entry

    def _bounded(
        self, names: Sequence[str], found: Sequence[Measured | None]
    ) -> list[dict[str, Any]]:
        """The entries of metrics, with intervals."""
        missing = np.full(self._config.replicates, math.nan)
        values = [
            [m.values[n] if m else math.nan for n in names] for m in found
        ]
        drawn = [
            [m.replicates.get(n, missing) if m else missing for n in names]
            for m in found
        ]
        columns = [("value", "interval"), ("baseline", "baseline_interval")]
        parts = list(
            zip(columns, np.array(values), np.array(drawn), strict=False)
        )
        limits = np.array([metric_registry.limits(name) for name in names])
        if len(parts) == 2:
            (_, first, drawn_1), (_, second, drawn_2) = parts
            pair = ("difference", "difference_interval")
            with np.errstate(invalid="ignore"):
                parts.append((pair, first - second, drawn_1 - drawn_2))
        entries: list[dict[str, Any]] = [{} for _ in names]
        for keys, numbers, replicates in parts:
            bounds = bootstrap.intervals(
                numbers, replicates, self._config.confidence
            )
            if keys[0] != "difference":
                bounds = np.clip(bounds, limits[:, :1], limits[:, 1:])
            for entry, number, ends in zip(
                entries, numbers.tolist(), bounds.tolist(), strict=True
            ):
                entry[keys[0]] = number if math.isfinite(number) else None
                entry[keys[1]] = None if math.isnan(ends[0]) else ends
        return entries


def named(key: Sequence[tuple[str, Value]]) -> str:
    """A slice's key in a line: device=tv, site=3."""
    return ", ".join(f"{column}={value}" for column, value in key)


def undefined_for(rows: int, positives: int, needs: str) -> str:
    """Name what rows lack that a metric needs; "" for nothing."""
    if not rows:
        return "no rows"
    if not positives and needs:
        return "no positive"
    if positives == rows and needs in ("both", "group"):
        return "no negative"
    return ""


def _why(
    name: str,
    sample: Sample,
    predictions: npt.NDArray[np.float32],
    where: str,
    group: str | None,
) -> str:
    """Why a metric is undefined, in words."""
    rows, positives = len(sample.labels), int(sample.labels.sum())
    bad = rows - int(np.isfinite(predictions).sum())
    if bad:
        return f"the model gives no finite number for {bad:,} of {rows:,} rows"
    metric = metric_registry.REGISTERED.get(name)
    lacks = undefined_for(rows, positives, metric.needs if metric else "both")
    if lacks:
        return f"{where} has {lacks}"
    if metric is not None and metric.needs == "group":
        labels = "rows of both labels" if name == "gauc" else "a positive"
        return f"{where} has no {group} with {labels}"
    return f"{where} gives no finite number"


def _ratio(over: float, under: float) -> float | None:
    return over / under if under else None
