"""Raw features to model inputs: the only place where this is decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from models.config.labels import FURTHER, UNKNOWN
from models.config.training import (
    LABEL,
    WEIGHT,
    CategoricalFeature,
    Features,
)
from models.config.vectors import VectorFeature
from models.preprocessing import (
    numeric,
    sequence_lists,
    time_parts,
    vector_text,
    weighted_text,
)
from models.preprocessing.input_layout import (
    DENSE,
    GROUPS,
    IDS,
    LABEL_COUNTS,
    LISTS,
    NUMBERS,
    SHALLOW_IDS,
    WEIGHTS,
    asset_name,
)
from models.preprocessing.vocabulary import (
    EMPTY_VOCABULARY,
    Vocabularies,
    Vocabulary,
)

Tensors = dict[str, Any]
EPSILON = 0.001  # of a quantile's rank
_GROUPS = 2**62  # numbers of groups: no two share one


class Observed(NamedTuple):
    """Columns that the analysis looks at; tensors, or their arrays.

    label: int64 [N]. texts: string [(values)], one for each vocabulary.
    dense: float32 [N, D], before scaling. numbers: float32 [(values)], one
    for each number in buckets. rows: int64 [(values)], of the texts of each
    vocabulary with `admission`, their rows. days: int32 [N], of the rows, and
    times: int64 [N], seconds since 1970, where there are such vocabularies.
    """

    label: Any
    texts: tuple[Any, ...]
    dense: Any
    numbers: tuple[Any, ...]
    rows: tuple[Any, ...] = ()
    days: Any = ()
    times: Any = ()


@dataclass(frozen=True)
class Analysis:
    """Result of the analysis.

    vocabularies: table -> file, or a `tf.lookup` table of it that gives its
    size for what is not in it. mean, variance: float32 [D], of
    `Observed.dense`. boundaries: feature name -> float32 [1, cuts - 1].
    low, high: float32 [D], where `numeric.ranged`.
    """

    vocabularies: Mapping[str, Any]
    mean: Any
    variance: Any
    boundaries: Mapping[str, Any]
    low: Any = None
    high: Any = None


def preprocessing_fn(
    inputs: Mapping[str, Any], custom_config: Mapping[str, Any]
) -> Tensors:
    """TFX Transform's entry point; `input_layout` says what comes out.

    Args:
        inputs: raw feature name -> SparseTensor; with at most one value a row
            unless the feature is a list.
        custom_config: {"features": the config section as a mapping}, and
            perhaps {"group": column by which the loss groups rows}.
    """
    features = Features.model_validate(custom_config["features"])
    return transformed(
        inputs,
        features,
        _analyzed(observe(inputs, features), features),
        group=custom_config.get("group"),
    )


def observe(
    inputs: Mapping[str, Any],
    features: Features,
    without: Collection[str] = (),
) -> Observed:
    """The tensors to analyze, but the texts of tables in `without`."""
    raw = _Raw(inputs)
    numbers = []
    for number in numeric.at_quantiles(features):
        values = numeric.clipped(raw.numbers(number.name), number)
        numbers.append(tf.boolean_mask(values, tf.math.is_finite(values)))
    return Observed(
        tf.cast(raw.column(LABEL, 0), tf.int64),
        tuple(
            _joined([raw.values(f) for f in group])
            for table, group in by_vocabulary(features).items()
            if table not in without
        ),
        numeric.unscaled(numeric.scalars(features), raw),
        tuple(numbers),
        tuple(
            _joined([raw.value_rows(f) for f in group])
            for table, group in by_vocabulary(features).items()
            if table in features.admitted() and table not in without
        ),
    )


def transformed(
    inputs: Mapping[str, Any],
    features: Features,
    found: Analysis,
    known: Mapping[str, Any] = MappingProxyType({}),
    group: str | None = None,
) -> Tensors:
    """The model's inputs; `models.preprocessing.input_layout` says which.

    known: ids [N] of features whose values are not among the inputs.
    group: column whose value is the row's group; None: there are none.
    """
    raw = _Raw(inputs)
    outputs: Tensors = {}
    for f in features.categorical:
        if f.list is not None:
            parts, weights = raw.parts(f)
            outputs[LISTS + f.name] = _list_ids(f, parts, found.vocabularies)
            if weights is not None:
                outputs[WEIGHTS + f.name] = weights
    outputs |= _sequences(inputs, features, raw.rows, found.vocabularies)
    single = [f for f in features.categorical if f.list is None]
    by_name = dict.fromkeys(f.name for f in single)
    by_name |= known
    by_name |= _text_ids(
        [f for f in single if f.encode != "identity" and f.name not in known],
        raw,
        found.vocabularies,
    )
    for f in single:
        if f.encode == "identity":
            by_name[f.name] = _identity_ids(f, raw)
    by_name |= numeric.bucket_ids(
        numeric.bucketed(features), raw, found.boundaries
    )
    if features.time is not None:
        text = raw.text(features.time.time.column)
        by_name |= time_parts.ids(text, features.time)
    apart = features.shallow()
    ids = [value for name, value in by_name.items() if name not in apart]
    encodes = {f.name: f.encode for f in features.categorical}
    for cross in features.crosses:
        parts = [
            raw.text(name)
            if encodes.get(name) in ("vocab", "hash")
            else tf.strings.as_string(by_name[name])
            for name in cross.of
        ]
        joined = tf.strings.join(parts, separator="\x1f")
        ids.append(tf.strings.to_hash_bucket_fast(joined, cross.buckets))
    if ids:
        outputs[IDS] = tf.stack(ids, axis=1)  # [N, len(single)]
    if apart:
        alone = [value for name, value in by_name.items() if name in apart]
        outputs[SHALLOW_IDS] = tf.stack(alone, axis=1)
    scalars = numeric.scalars(features)
    numbers = [numeric.dense(scalars, raw, found)] if scalars else []
    for vector in features.vectors:
        numbers += raw.vector(vector)
    if numbers:
        outputs[DENSE] = _joined(numbers, 1)
    if group is not None:
        outputs[GROUPS] = raw.groups(group)
    if LABEL in inputs:
        outputs[LABEL] = raw.column(LABEL, 0)
    for name in inputs:
        if name.startswith(FURTHER):
            outputs[name] = raw.column(name, UNKNOWN)
    if WEIGHT in inputs:
        outputs[WEIGHT] = raw.column(WEIGHT, 1)
    return outputs


def by_vocabulary(features: Features) -> dict[str, list[CategoricalFeature]]:
    """Table -> the features with this vocabulary, from the data of all."""
    groups: dict[str, list[CategoricalFeature]] = {}
    for f in features.categorical:
        if f.encode == "vocab":
            groups.setdefault(f.rows, []).append(f)
    return groups


def vocabularies(features: Features) -> list[Vocabulary]:
    """Features of `by_vocabulary`, in order."""
    return [
        Vocabulary(asset_name(f), f.min_count, f.max_size, f.admission)
        for f, *_ in by_vocabulary(features).values()
    ]


class _Raw:
    """Dense columns of the raw inputs, each made once."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self.rows = _row_count(inputs)
        self._text: dict[str, tf.Tensor] = {}

    def column(self, name: str, default: Any) -> tf.Tensor:
        """[N]; `default` where missing, or everywhere if never seen."""
        sparse = self._inputs.get(name)
        if sparse is None:
            return tf.fill([self.rows], default)
        if not isinstance(sparse, tf.SparseTensor):
            dense = sparse.shape.rank == 1
            return sparse if dense else tf.reshape(sparse, [-1])
        # Shape [N, 1] from the rows that have a value: with no value in the
        # batch the width of the input is 0.
        column = tf.SparseTensor(
            sparse.indices, sparse.values, [sparse.dense_shape[0], 1]
        )
        default = tf.cast(default, sparse.dtype)
        return tf.squeeze(tf.sparse.to_dense(column, default), 1)

    def text(self, name: str) -> tf.Tensor:
        """String [N], "" where missing."""
        if name not in self._text:
            self._text[name] = self.column(name, "")
        return self._text[name]

    def numbers(self, name: str) -> tf.Tensor:
        """float32 [N]; not finite where missing."""
        return tf.cast(self.column(name, float("nan")), tf.float32)

    def groups(self, name: str) -> tf.Tensor:
        """int64 [N], the same of equal values; -1 where missing."""
        values = self._inputs.get(name)
        if values is None or values.dtype == tf.string:
            text = self.text(name)
        else:  # a number is missing where its text says so
            found = tf.strings.as_string(values.values)
            text = _Raw({name: values.with_values(found)}).text(name)
        groups = tf.strings.to_hash_bucket_fast(text, _GROUPS)
        return tf.where(tf.equal(text, ""), -tf.ones_like(groups), groups)

    def vector(self, feature: VectorFeature) -> list[tf.Tensor]:
        """float32 [N, size], zeros where missing; and [N, 1], 1 there."""
        column = self._inputs.get(feature.name)
        if column is None:
            zeros = tf.zeros([self.rows, feature.size])
            return [zeros, tf.ones([self.rows, 1])]
        values = vector_text.matrix(column, feature.size)
        missing = tf.math.is_nan(values)
        values = tf.where(missing, tf.zeros_like(values), values)
        return [values, tf.cast(missing[:, :1], tf.float32)]

    def values(self, feature: CategoricalFeature) -> tf.Tensor:
        """String [(values)] of all rows; no vocabulary takes empty ones."""
        if feature.list is None:
            return self.text(feature.name)
        sparse = self._inputs.get(feature.name)
        if isinstance(sparse, tf.SparseTensor):
            values = sparse.values
        else:
            values = self.text(feature.name)
        return weighted_text.values(values, feature.weights)

    def value_rows(self, feature: CategoricalFeature) -> tf.Tensor:
        """int64 [(values)]: the row of each of `values`."""
        sparse = self._inputs.get(feature.name)
        if feature.list is not None and isinstance(sparse, tf.SparseTensor):
            return sparse.indices[:, 0]
        return tf.range(tf.cast(self.rows, tf.int64))

    def parts(
        self, feature: CategoricalFeature
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor | None]:
        """The values of a list, string [N, (ragged)], and their weights."""
        sparse = self._inputs.get(feature.name)
        if isinstance(sparse, tf.SparseTensor):
            values, rows = sparse.values, sparse.indices[:, 0]
        else:
            values = self.text(feature.name)
            rows = tf.range(tf.cast(self.rows, tf.int64))
        whole = values
        values = weighted_text.values(whole, feature.weights)
        # The ingest writes empty ones, too: see `category_text`.
        there = tf.where(tf.not_equal(values, ""))[:, 0]
        # By rows and not by splits: pooling wants them, and to convert one
        # into the other takes 25 ops.
        parts = tf.RaggedTensor.from_value_rowids(
            tf.gather(values, there),
            tf.gather(rows, there),
            tf.cast(self.rows, tf.int64),
            validate=False,
        )
        if feature.weights is None:
            return parts, None
        numbers = weighted_text.numbers(whole, feature.weights)
        return parts, parts.with_flat_values(tf.gather(numbers, there))


def _joined(values: list[tf.Tensor], axis: int = 0) -> tf.Tensor:
    return values[0] if len(values) == 1 else tf.concat(values, axis)


def _row_count(inputs: Mapping[str, Any]) -> tf.Tensor:
    first = next(iter(inputs.values()))
    if isinstance(first, tf.SparseTensor):
        return tf.cast(first.dense_shape[0], tf.int32)
    return tf.shape(first)[0]


def _analyzed(observed: Observed, features: Features) -> Analysis:
    """By TFT's analyzers, vocabularies in one pass."""
    texts = (observed.label, *observed.texts)
    wanted = vocabularies(features)
    _, *files = tft.experimental.ptransform_analyzer(
        inputs=texts,
        ptransform=Vocabularies(LABEL_COUNTS, wanted),
        output_dtypes=[tf.string] * len(texts),
        output_shapes=[[]] * len(texts),
        output_asset_default_values=[b"0\n0"]
        + [EMPTY_VOCABULARY] * len(wanted),
        name="vocabularies",
    )
    mean = variance = low = high = None
    dense = observed.dense
    if any(f.transform in numeric.Z_SCORES for f in features.numeric):
        mean = tft.mean(dense, reduce_instance_dims=False)
        variance = tft.var(dense, reduce_instance_dims=False)
    if numeric.ranged(features):
        low = tft.min(dense, reduce_instance_dims=False)
        high = tft.max(dense, reduce_instance_dims=False)
    return Analysis(
        dict(zip(by_vocabulary(features), files, strict=True)),
        mean,
        variance,
        {
            f.name: tft.quantiles(values, f.cuts, epsilon=EPSILON)
            for f, values in zip(
                numeric.at_quantiles(features), observed.numbers, strict=True
            )
        },
        low,
        high,
    )


def _identity_ids(feature: CategoricalFeature, raw: _Raw) -> tf.Tensor:
    """int64 [N]; 0 is missing."""
    number = tf.cast(raw.column(feature.name, -1), tf.int64)
    inside = (number >= 0) & (number < feature.buckets)
    return tf.where(inside, number + 1, tf.zeros_like(number))


def _text_ids(
    features: list[CategoricalFeature],
    raw: _Raw,
    vocabularies: Mapping[str, Any],
) -> Tensors:
    """Feature -> int64 [N], 0 where missing; an op each for the lookup."""
    if not features:
        return {}
    texts = [raw.text(f.name) for f in features]
    found = [
        _ids(f, text, vocabularies)
        for f, text in zip(features, texts, strict=True)
    ]
    ids = 1 + tf.stack(found)  # [F, N]
    missing = tf.stack([tf.equal(text, "") for text in texts])
    ids = tf.where(missing, tf.zeros_like(ids), ids)
    names = [f.name for f in features]
    return dict(zip(names, tf.unstack(ids, len(names)), strict=True))


def _sequences(
    inputs: Mapping[str, Any],
    features: Features,
    count: tf.Tensor,
    vocabularies: Mapping[str, Any],
) -> Tensors:
    """Ragged ids and numbers [N, (items)], the newest item first."""
    by_name = {f.name: f for f in features.categories}
    outputs: Tensors = {}
    for sequence in features.sequences:
        rows, columns = sequence_lists.newest(
            sequence, inputs, tf.cast(count, tf.int64)
        )
        for name, values in columns.items():
            f, key = by_name.get(name), NUMBERS + name
            if f is not None:
                key = LISTS + name
                values = _ids_or_missing(f, values, vocabularies)
            outputs[key] = tf.RaggedTensor.from_value_rowids(
                values, rows, tf.cast(count, tf.int64), validate=False
            )
    return outputs


def _ids_or_missing(
    feature: CategoricalFeature,
    values: tf.Tensor,
    vocabularies: Mapping[str, Any],
) -> tf.Tensor:
    """Ids of texts, 0 where one is empty; ids as they are."""
    if values.dtype != tf.string:
        return values
    found = 1 + _ids(feature, values, vocabularies)
    return tf.where(tf.equal(values, ""), tf.zeros_like(found), found)


def _list_ids(
    feature: CategoricalFeature,
    parts: tf.RaggedTensor,
    vocabularies: Mapping[str, Any],
) -> tf.RaggedTensor:
    """Ragged int64 [N, (values)] of its `parts`."""
    found = _ids(feature, parts.flat_values, vocabularies)
    return parts.with_flat_values(1 + found)


def _ids(
    feature: CategoricalFeature,
    text: tf.Tensor,
    vocabularies: Mapping[str, Any],
) -> tf.Tensor:
    """Ids from 0 on of values that are not missing."""
    if feature.encode == "hash":
        return tf.strings.to_hash_bucket_fast(text, feature.buckets)
    vocabulary = vocabularies[feature.rows]
    if not isinstance(vocabulary, tf.lookup.StaticHashTable):
        return tft.apply_vocabulary(
            text,
            deferred_vocab_filename_tensor=vocabulary,
            num_oov_buckets=feature.oov_buckets,
        )
    ids = vocabulary.lookup(text)
    if feature.oov_buckets == 1:
        return ids
    size = vocabulary.default_value
    bucket = tf.strings.to_hash_bucket_fast(text, feature.oov_buckets)
    return tf.where(tf.equal(ids, size), size + bucket, ids)
