"""Raw features of examples as columns: what a request to the model holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from components.evaluator.predictions import batches, hashed
from models.config.labels import Label
from models.config.training import LABEL, WEIGHT, Features
from models.export import DTYPES, MISSING
from models.preprocessing import weighted_text

_MERGE_AT = 1 << 22  # numbers kept of a column before equal ones are merged
_PRIME = 2**63 - 1
_JOINT = "\x1f"  # as in `models.preprocessing.preprocessing_fn`
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RawRows:
    """Rows of a split, drawn at random.

    labels: bool [N]. columns: feature -> tensor [N], missing values as in a
    request, or the values of a list, ragged [N, (values)].
    groups: a hash of the group's value, -1 without one; [N], or None.
    of: rows of the whole split. weights: [N]; None: 1 each.
    further: label after the first -> 0, 1, or UNKNOWN; [N].
    """

    labels: npt.NDArray[np.bool_]
    columns: dict[str, Any]
    groups: Ints | None
    of: int
    weights: npt.NDArray[np.float32] | None = None
    further: dict[str, Ints] = field(default_factory=dict)


@dataclass(frozen=True)
class Distinct:
    """Distinct values of a column: their fingerprints, rising, and buckets."""

    prints: Ints
    buckets: Ints


def sample(
    files: Sequence[str],
    features: Features,
    total: int,
    rows: int,
    group: tuple[str, str] | None,
    seed: int,
    weighted: bool = False,
    labels: Sequence[Label] = (),
) -> RawRows:
    """At most `rows` of the rows of `files`.

    Args:
        files: TFRecords of tf.Examples.
        features: the config section.
        total: how many rows there are.
        rows: wanted.
        group: column that groups rows, and its kind.
        seed: of the draw.
        weighted: whether the examples have weights.
        labels: of a model of several, in order.
    """
    rng = np.random.default_rng(seed)
    wanted = np.arange(total)
    if rows < total:
        wanted = np.sort(rng.choice(total, rows, replace=False))
    kinds = features.kinds()

    def step(serialized: tf.Tensor) -> dict[str, Any]:
        spec: dict[str, Any] = {
            name: tf.io.VarLenFeature(DTYPES[kind])
            for name, kind in kinds.items()
        }
        if group is not None:
            spec.setdefault(group[0], tf.io.VarLenFeature(DTYPES[group[1]]))
        spec[LABEL] = tf.io.FixedLenFeature([], tf.int64)
        if weighted:
            spec[WEIGHT] = tf.io.FixedLenFeature([], tf.float32)
        for one in labels[1:]:
            spec[one.column] = tf.io.FixedLenFeature([], tf.int64)
        parsed = tf.io.parse_example(serialized, spec)
        out = {"label": parsed[LABEL] > 0}
        if labels:
            out["further"] = {
                one.name: parsed[one.column] for one in labels[1:]
            }
        if weighted:
            out["weight"] = parsed[WEIGHT]
        if group is not None:
            out["group"] = hashed(parsed[group[0]])
        return out | {"columns": _columns(parsed, features)}

    first = 0
    parts: list[dict[str, Any]] = []
    for batch in batches(files, step):
        count = len(batch["label"])
        low, high = np.searchsorted(wanted, [first, first + count])
        at = wanted[low:high] - first
        first += count
        picked = tf.nest.map_structure(
            lambda column, at=at: tf.gather(column, at),
            dict(batch),
        )
        parts.append(picked)
    whole = tf.nest.map_structure(lambda *some: tf.concat(some, 0), *parts)
    return RawRows(
        whole["label"].numpy(),
        whole["columns"],
        whole["group"].numpy() if group is not None else None,
        total,
        whole["weight"].numpy() if weighted else None,
        {name: v.numpy() for name, v in whole.get("further", {}).items()},
    )


def _columns(
    parsed: Mapping[str, tf.SparseTensor], features: Features
) -> dict[str, Any]:
    lists, placed = features.lists(), features.sequence_of()
    return {
        name: _lists(parsed[name], name in placed)
        if name in lists
        else _dense(parsed[name], MISSING[kind])
        for name, kind in features.kinds().items()
        if name in parsed
    }


def _lists(column: tf.SparseTensor, placed: bool) -> tf.RaggedTensor:
    """[N, (values)]; empty ones are missing, or keep their place."""
    lists = tf.RaggedTensor.from_sparse(column)
    if column.dtype != tf.string:  # vectors, as a text with their bits
        return lists.with_flat_values(
            tf.strings.as_string(lists.flat_values, precision=9, shortest=True)
        )
    if placed:
        return lists
    return tf.ragged.boolean_mask(lists, tf.not_equal(lists, ""))


def requests(
    columns: Mapping[str, Any], features: Features
) -> dict[str, tf.Tensor]:
    """Columns of `RawRows` as `serving_default` takes them.

    A list becomes a text, in which a value that holds the separator is split.
    """
    texts = {
        name: tf.strings.reduce_join(columns[name], 1, separator=separator)
        for name, separator in features.lists().items()
        if name in columns
    }
    return {**columns, **texts}


def _dense(column: tf.SparseTensor, missing: Any) -> tf.Tensor:
    """[N], the first value of each row."""
    rows = column.dense_shape[0]
    first = tf.equal(column.indices[:, 1], 0)
    return tf.tensor_scatter_nd_update(
        tf.fill([rows], tf.constant(missing, column.dtype)),
        tf.boolean_mask(column.indices[:, :1], first),
        tf.boolean_mask(column.values, first),
    )


def values_of(
    features: Features, columns: Mapping[str, Any]
) -> dict[str, tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Category or cross -> row, fingerprint and bucket of each value.

    A sequence, and a side with categories, is a list. A missing value is none.
    Crosses of numbers are left out, and so are buckets of what is not hashed
    (-1).

    Args:
        features: the config section.
        columns: see `RawRows`.
    """
    found = {}
    placed = features.sequence_of()
    for f in features.categories:
        column = columns[f.name]
        if f.encode == "identity":
            there = tf.where(column >= 0)
            values = tf.strings.as_string(tf.gather_nd(column, there))
            rows = there[:, 0]
        elif f.list is not None:
            if f.name in placed:
                column = tf.ragged.boolean_mask(column, column != "")
            texts, rows = column.flat_values, column.value_rowids()
            values = weighted_text.values(texts, f.weights)
        else:
            there = tf.where(tf.not_equal(column, ""))
            values, rows = tf.gather_nd(column, there), there[:, 0]
        buckets = f.buckets if f.encode == "hash" else 0
        found[f.name] = (rows, *_hashes(values, buckets))
    by_name = {f.name: f for f in features.categorical}
    for cross in features.crosses:
        if not set(cross.of) <= by_name.keys():
            continue
        texts = [_part(by_name[name], columns[name]) for name in cross.of]
        joined = tf.strings.join(texts, _JOINT)
        rows = tf.range(tf.size(joined), dtype=tf.int64)
        found[cross.name] = (rows, *_hashes(joined, cross.buckets))
    return found


def _part(feature: Any, column: tf.Tensor) -> tf.Tensor:
    """Text of a category that a cross joins."""
    if feature.encode != "identity":
        return column
    inside = (column >= 0) & (column < feature.buckets)
    ids = tf.where(inside, column + 1, tf.zeros_like(column))
    return tf.strings.as_string(ids)


def _hashes(values: tf.Tensor, buckets: int) -> tuple[tf.Tensor, tf.Tensor]:
    prints = fingerprints(values)
    if not buckets:
        return prints, -tf.ones_like(prints)
    return prints, tf.strings.to_hash_bucket_fast(values, buckets)


def fingerprints(values: tf.Tensor) -> tf.Tensor:
    """A number for each text; two texts have hardly ever the same."""
    return tf.strings.to_hash_bucket_fast(values, _PRIME)


def distinct(
    files: Sequence[str], features: Features
) -> tuple[dict[str, Distinct], int]:
    """Distinct values of categories and crosses in `files`; and their rows.

    Sixteen bytes a distinct value are kept.
    """
    kinds = {f.name: features.kinds()[f.name] for f in features.categories}

    def step(serialized: tf.Tensor) -> dict[str, Any]:
        spec = {n: tf.io.VarLenFeature(DTYPES[k]) for n, k in kinds.items()}
        parsed = tf.io.parse_example(serialized, spec)
        found = values_of(features, _columns(parsed, features))
        return {
            "rows": tf.size(serialized),
            "values": {name: some[1:] for name, some in found.items()},
        }

    kept: dict[str, list[tuple[Ints, Ints]]] = {}
    waiting: dict[str, int] = {}
    rows = 0
    for batch in batches(files, step) if kinds else ():
        rows += int(batch["rows"])
        for name, (prints, buckets) in batch["values"].items():
            one = _merged([(prints.numpy(), buckets.numpy())])
            kept.setdefault(name, []).append(one)
            waiting[name] = waiting.get(name, 0) + len(one[0])
            if waiting[name] > _MERGE_AT:
                kept[name], waiting[name] = [_merged(kept[name])], 0
    found = {name: Distinct(*_merged(parts)) for name, parts in kept.items()}
    return found, rows


def _merged(parts: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    prints = np.concatenate([part[0] for part in parts])
    buckets = np.concatenate([part[1] for part in parts])
    unique, at = np.unique(prints, return_index=True)
    return unique, buckets[at]
