"""Importance of features, ids that training never saw, hash collisions.

`importance` of `evaluation.json`; ENTRY as there, without a baseline:

    rows, of        rows that were drawn, of how many
    repeats         permutations of each feature
    features        [{"name", "crosses": names of those it is in,
                    "logloss", "auc": ENTRY}], the most important first: how
                    much the metric rises when the feature's values are dealt
                    to other rows at random; a sequence's, those of its sides
                    along with them. Of a model of several labels these are of
                    the first, and "outputs" has those of the other outputs,
                    output -> {"logloss", "auc"}, of the rows where it counts
    train_rows      rows whose values count as seen
    ids             [{"name", "encode", "unseen": share of the impressions with
                    a value that no training row has, "out_of_vocabulary": share
                    of those with a value that the vocabulary has not, or null,
                    "cold", "rest": {"rows", "positives", "metrics": metric ->
                    ENTRY} of the impressions with such an unseen value, and of
                    the others}], the largest share first
    collisions      [{"name", "buckets", "values": distinct in training,
                    "used": buckets with a value, "shared": values that share
                    their bucket with another}] of hashed features and crosses
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.arrow_masks import Mask
from components.evaluator import bootstrap
from components.evaluator.config import EvaluateConfig
from components.evaluator.measured import Measured, Sample, measure
from components.evaluator.outputs import labels_and_rows
from components.evaluator.predictions import BATCH
from components.evaluator.raw_columns import (
    Distinct,
    Ints,
    RawRows,
    distinct,
    fingerprints,
    requests,
    sample,
    values_of,
)
from models.config.labels import CTR, Label, outputs
from models.config.training import Features
from models.errors import InputError
from models.preprocessing.input_layout import asset_name
from models.preprocessing.transform_assets import lines_of
from serving import manifest

_SEED = 20231123
_THREADS = min(4, os.cpu_count() or 1)
_OF_ROWS = ("logloss", "auc", "calibration")
Predictions = npt.NDArray[np.float32]
log = logging.getLogger("lionctr.evaluate")


def audit(
    files: Sequence[str],
    train: Sequence[str],
    model: str,
    total: int,
    config: EvaluateConfig,
    group_kind: str = "string",
    weighted: bool = False,
    labels: Sequence[Label] = (),
) -> dict[str, Any]:
    """See the module.

    Args:
        files: TFRecords of the raw examples to look at.
        train: those that the model was trained on.
        model: folder of the SavedModel, an export of ours.
        total: rows of `files`.
        config: the config section, with `importance`.
        group_kind: kind of the column `group`.
        weighted: whether the examples have weights.
        labels: of a model of several, in order.

    Raises:
        InputError: the model has no manifest with features.
    """
    wanted = config.importance
    assert wanted is not None
    features, served = _described(model)
    group = None if config.group is None else (config.group, group_kind)
    rows = sample(
        files, features, total, wanted.rows, group, _SEED, weighted, labels
    )
    loaded = tf.saved_model.load(model)
    judges = {CTR: _Judge(rows, rows.labels, config=config)} | {
        output.name: _Judge(
            rows,
            *labels_and_rows(rows.labels, rows.further, output, labels),
            config=config,
        )
        for output in outputs(labels)[1:]
    }
    score = _Scorer(loaded.signatures["serving_default"], served, judges)
    asked = requests(rows.columns, features)
    base = score(asked)
    found = {
        "rows": len(rows.labels),
        "of": rows.of,
        "repeats": wanted.repeats,
        "features": _permuted(
            features,
            dataclasses.replace(rows, columns=asked),
            score,
            judges,
            base,
            wanted.repeats,
        ),
    }
    seen, train_rows = distinct(train, features)
    return found | {
        "train_rows": train_rows,
        "ids": _ids(features, rows, judges[CTR], base[CTR], seen, model),
        "collisions": _collisions(features, seen),
    }


def _described(model: str) -> tuple[Features, dict[str, str]]:
    """The features of an export, and their names in its signature."""
    path = os.path.join(model, manifest.NAME)
    try:
        with tf.io.gfile.GFile(path) as file:
            found = json.loads(file.read())
        return (
            Features.model_validate(found["config"]["features"]),
            dict(found["inputs"]),
        )
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"evaluate.importance: {path} does not tell the model's features:"
            f" {error}. Accepted: an export of this project's Trainer, or"
            " evaluate.importance: false"
        ) from error


class _Scorer:
    """Calls `serving_default` on whole columns, batch by batch."""

    def __init__(
        self, signature: Any, served: Mapping[str, str], wanted: Iterable[str]
    ) -> None:
        self._signature = signature
        self._outputs = tuple(wanted)
        self.served = {
            name: called
            for name, called in served.items()
            if called in signature.structured_input_signature[1]
        }

    def __call__(
        self, columns: Mapping[str, tf.Tensor]
    ) -> dict[str, Predictions]:
        """Output -> probabilities, [N]."""
        wanted = [(called, columns[n]) for n, called in self.served.items()]
        count = int(wanted[0][1].shape[0])

        def part(first: int) -> list[Predictions]:
            found = self._signature(
                **{name: col[first : first + BATCH] for name, col in wanted}
            )
            return [
                np.asarray(found[name].numpy().reshape(-1), np.float32)
                for name in self._outputs
            ]

        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(pool.map(part, range(0, count, BATCH)))
        none = [[np.zeros(0, np.float32)] * len(self._outputs)]
        return {
            name: np.concatenate(pieces)
            for name, pieces in zip(
                self._outputs, zip(*(parts or none), strict=True), strict=True
            )
        }


class _Judge:
    """Metrics of an output's predictions for the sampled rows, with intervals.

    Args:
        rows: all that were sampled.
        labels: of the output; bool [N].
        counts: rows where the output counts; None: all.
        config: the config section.
    """

    def __init__(
        self,
        rows: RawRows,
        labels: Mask,
        counts: Mask | None = None,
        *,
        config: EvaluateConfig,
    ) -> None:
        groups = rows.groups
        if groups is not None:
            values, codes = np.unique(groups, return_inverse=True)
            groups = codes - int((values == -1).any())
        count = len(rows.labels)
        self._sample = Sample(
            labels.astype(np.float64),
            bootstrap.units(count, groups),
            np.ones(count)
            if rows.weights is None
            else rows.weights.astype(np.float64),
        )
        self._rows: Ints | None = None
        if counts is not None:
            self._rows = np.flatnonzero(counts)
            self._sample = self._sample[self._rows]
        self._draws = bootstrap.draws(config.replicates)
        self._confidence = config.confidence

    def measure(
        self, predictions: Predictions, rows: Ints | None = None
    ) -> Measured | None:
        """Metrics, of some rows or of all; None for a prediction of NaN.

        Args:
            predictions: of all sampled rows.
            rows: some of those where the output counts.
        """
        sample, some = self._sample, predictions
        if self._rows is not None:
            some = some[self._rows]
        if rows is not None:
            sample, some = sample[rows], some[rows]
        if not np.isfinite(some).all():
            return None
        return measure(sample, some, self._draws, {}, 10)

    def part(self, predictions: Predictions, rows: Ints) -> dict[str, Any]:
        """Rows, positives and metrics of a part of the rows."""
        found = self.measure(predictions, rows)
        return {
            "rows": len(rows),
            "positives": int(self._sample.labels[rows].sum()),
            "metrics": {
                name: self.entry(
                    found.values[name] if found else math.nan,
                    found.replicates.get(name) if found else None,
                )
                for name in _OF_ROWS
            },
        }

    def rise(
        self,
        base: Measured | None,
        others: Sequence[Measured | None],
        name: str,
    ) -> dict[str, Any]:
        """An entry: mean of a metric over `others`, less that of `base`."""
        if base is None or None in others:
            return self.entry(math.nan, None)
        known = [one for one in others if one is not None]
        value = np.mean([one.values[name] for one in known])
        drawn = None
        if name in base.replicates:
            drawn = np.mean([one.replicates[name] for one in known], axis=0)
            drawn = drawn - base.replicates[name]
        return self.entry(float(value - base.values[name]), drawn)

    def entry(self, value: float, drawn: Any) -> dict[str, Any]:
        """A value and its interval; null where there is none."""
        if not math.isfinite(value):
            return {"value": None, "interval": None}
        ends = [math.nan]
        if drawn is not None:
            (ends,) = bootstrap.intervals(
                np.array([value]), drawn[None], self._confidence
            ).tolist()
        return {
            "value": value,
            "interval": None if math.isnan(ends[0]) else ends,
        }


def _permuted(
    features: Features,
    rows: RawRows,
    score: _Scorer,
    judges: Mapping[str, _Judge],
    predictions: Mapping[str, Predictions],
    repeats: int,
) -> list[dict[str, Any]]:
    """Crosses are made inside the model: they go with their features.

    Sides go with their sequence: they are of one length. Features that only
    training sees are no part of a request.
    """
    rng = np.random.default_rng(_SEED)
    base = {n: judge.measure(predictions[n]) for n, judge in judges.items()}
    found = []
    beside = features.sequence_of()
    names = [n for n in score.served if beside.get(n, n) == n]
    for number, name in enumerate(names, 1):
        log.info("importance: feature %d of %d", number, len(names))
        together = [n for n in score.served if beside.get(n, n) == name]
        others: dict[str, list[Measured | None]] = {n: [] for n in judges}
        for _ in range(repeats):
            dealt = rng.permutation(len(rows.labels))
            columns = {n: tf.gather(rows.columns[n], dealt) for n in together}
            changed = score({**rows.columns, **columns})
            for output, judge in judges.items():
                others[output].append(judge.measure(changed[output]))
        rises = {
            output: {
                metric: judge.rise(base[output], others[output], metric)
                for metric in ("logloss", "auc")
            }
            for output, judge in judges.items()
        }
        entry = {
            "name": name,
            "crosses": [c.name for c in features.crosses if name in c.of],
            **rises.pop(CTR),
        }
        found.append(entry | ({"outputs": rises} if rises else {}))
    return sorted(found, key=lambda one: -(one["logloss"]["value"] or 0.0))


def _ids(
    features: Features,
    rows: RawRows,
    judged: _Judge,
    predictions: Predictions,
    seen: Mapping[str, Distinct],
    model: str,
) -> list[dict[str, Any]]:
    values = values_of(features, rows.columns)
    count = len(rows.labels)
    found = []
    for f in features.categories:
        at, prints = (tensor.numpy() for tensor in values[f.name][:2])
        known = seen[f.name].prints if f.name in seen else np.zeros(0, int)
        cold = np.zeros(count, bool)
        cold[at[~_among(prints, known)]] = True
        outside = None
        if f.encode == "vocab":
            path = os.path.join(model, "assets", asset_name(f))
            vocabulary = fingerprints(tf.constant(lines_of(path))).numpy()
            unknown = at[~_among(prints, np.sort(vocabulary))]
            outside = _share(len(np.unique(unknown)), count)
        found.append(
            {
                "name": f.name,
                "encode": f.encode,
                "unseen": _share(int(cold.sum()), count),
                "out_of_vocabulary": outside,
                "cold": judged.part(predictions, np.flatnonzero(cold)),
                "rest": judged.part(predictions, np.flatnonzero(~cold)),
            }
        )
    return sorted(found, key=lambda one: -(one["unseen"] or 0.0))


def _collisions(
    features: Features, seen: Mapping[str, Distinct]
) -> list[dict[str, Any]]:
    sizes = {
        f.name: f.buckets for f in features.categorical if f.encode == "hash"
    } | {cross.name: cross.buckets for cross in features.crosses}
    found = []
    for name in sizes.keys() & seen.keys():
        _, counts = np.unique(seen[name].buckets, return_counts=True)
        found.append(
            {
                "name": name,
                "buckets": sizes[name],
                "values": len(seen[name].prints),
                "used": len(counts),
                "shared": int(counts[counts > 1].sum()),
            }
        )
    return sorted(found, key=lambda one: (-one["shared"], one["name"]))


def _among(values: Ints, rising: Ints) -> npt.NDArray[np.bool_]:
    """Which of `values` are in `rising`."""
    if not len(rising):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    return np.asarray(rising[at] == values)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
