"""Raw features to model inputs: the only place where this is decided."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_transform as tft

from models.config.training import (
    LABEL,
    WEIGHT,
    CategoricalFeature,
    Features,
    NumericFeature,
)
from models.preprocessing import time_parts
from models.preprocessing.input_layout import (
    DENSE,
    IDS,
    LABEL_COUNTS,
    LISTS,
    asset_name,
)
from models.preprocessing.vocabulary import (
    EMPTY_VOCABULARY,
    Vocabularies,
    Vocabulary,
)

Tensors = dict[str, Any]
EPSILON = 0.001  # of a quantile's rank


class Observed(NamedTuple):
    """Columns that the analysis looks at; tensors, or their arrays.

    label: int64 [N]. texts: string [(values)], one for each vocabulary.
    dense: float32 [N, D], before scaling. numbers: float32 [(values)], one
    for each number in buckets.
    """

    label: Any
    texts: tuple[Any, ...]
    dense: Any
    numbers: tuple[Any, ...]


@dataclass(frozen=True)
class Analysis:
    """Result of the analysis.

    vocabularies: table -> file, or a `tf.lookup` table of it that gives its
    size for what is not in it. mean, variance: float32 [D], of
    `Observed.dense`. boundaries: feature name -> float32 [1, buckets - 1].
    """

    vocabularies: Mapping[str, Any]
    mean: Any
    variance: Any
    boundaries: Mapping[str, Any]


def preprocessing_fn(
    inputs: Mapping[str, Any], custom_config: Mapping[str, Any]
) -> Tensors:
    """TFX Transform's entry point; `input_layout` says what comes out.

    Args:
        inputs: raw feature name -> SparseTensor; with at most one value a row
            unless the feature is a list.
        custom_config: {"features": the config section as a mapping}.
    """
    features = Features.model_validate(custom_config["features"])
    return transformed(
        inputs, features, _analyzed(observe(inputs, features), features)
    )


def observe(
    inputs: Mapping[str, Any],
    features: Features,
    without: Collection[str] = (),
) -> Observed:
    """The tensors to analyze, but the texts of tables in `without`."""
    raw = _Raw(inputs)
    numbers = []
    for number in bucketed(features):
        values = raw.numbers(number.name)
        numbers.append(tf.boolean_mask(values, tf.math.is_finite(values)))
    return Observed(
        tf.cast(raw.column(LABEL, 0), tf.int64),
        tuple(
            _joined([raw.values(f) for f in group])
            for table, group in by_vocabulary(features).items()
            if table not in without
        ),
        _unscaled(scalars(features), raw),
        tuple(numbers),
    )


def transformed(
    inputs: Mapping[str, Any],
    features: Features,
    found: Analysis,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> Tensors:
    """The model's inputs; `models.preprocessing.input_layout` says which.

    known: ids [N] of features whose values are not among the inputs.
    """
    raw = _Raw(inputs)
    outputs: Tensors = {
        LISTS + f.name: _list_ids(f, raw, found.vocabularies)
        for f in features.categorical
        if f.list is not None
    }
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
    by_name |= _bucket_ids(bucketed(features), raw, found.boundaries)
    if features.time is not None:
        text = raw.text(features.time.time.column)
        by_name |= time_parts.ids(text, features.time)
    ids = list(by_name.values())
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
    if scalars(features):
        outputs[DENSE] = _dense(scalars(features), raw, found)
    if LABEL in inputs:
        outputs[LABEL] = raw.column(LABEL, 0)
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


def bucketed(features: Features) -> list[NumericFeature]:
    """Those cut at quantiles."""
    return [f for f in features.numeric if f.transform == "buckets"]


def scalars(features: Features) -> list[NumericFeature]:
    """Those that stay numbers."""
    return [f for f in features.numeric if f.transform != "buckets"]


def vocabularies(features: Features) -> list[Vocabulary]:
    """Features of `by_vocabulary`, in order."""
    return [
        Vocabulary(asset_name(f), f.min_count, f.max_size)
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

    def values(self, feature: CategoricalFeature) -> tf.Tensor:
        """String [(values)] of all rows; no vocabulary takes empty ones."""
        if feature.list is None:
            return self.text(feature.name)
        sparse = self._inputs.get(feature.name)
        if isinstance(sparse, tf.SparseTensor):
            return sparse.values
        return self.text(feature.name)

    def parts(self, feature: CategoricalFeature) -> tf.RaggedTensor:
        """The values of a list feature, string [N, (ragged)]."""
        sparse = self._inputs.get(feature.name)
        if isinstance(sparse, tf.SparseTensor):
            values, rows = sparse.values, sparse.indices[:, 0]
        else:
            values = self.text(feature.name)
            rows = tf.range(tf.cast(self.rows, tf.int64))
        # The ingest writes empty ones, too: see `category_text`.
        there = tf.where(tf.not_equal(values, ""))[:, 0]
        # By rows and not by splits: pooling wants them, and to convert one
        # into the other takes 25 ops.
        return tf.RaggedTensor.from_value_rowids(
            tf.gather(values, there),
            tf.gather(rows, there),
            tf.cast(self.rows, tf.int64),
            validate=False,
        )


def _joined(values: list[tf.Tensor]) -> tf.Tensor:
    return values[0] if len(values) == 1 else tf.concat(values, 0)


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
    mean = variance = None
    if any(_logs_and_scales(scalars(features))[1]):
        mean = tft.mean(observed.dense, reduce_instance_dims=False)
        variance = tft.var(observed.dense, reduce_instance_dims=False)
    return Analysis(
        dict(zip(by_vocabulary(features), files, strict=True)),
        mean,
        variance,
        {
            f.name: tft.quantiles(values, f.buckets, epsilon=EPSILON)
            for f, values in zip(
                bucketed(features), observed.numbers, strict=True
            )
        },
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


def _list_ids(
    feature: CategoricalFeature, raw: _Raw, vocabularies: Mapping[str, Any]
) -> tf.RaggedTensor:
    """Ragged int64 [N, (values)]."""
    parts = raw.parts(feature)
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


def _bucket_ids(
    features: list[NumericFeature], raw: _Raw, boundaries: Mapping[str, Any]
) -> Tensors:
    """Feature -> int64 [N]: quantile bucket from 1 on, 0 where missing."""
    if not features:
        return {}
    values = tf.stack([raw.numbers(f.name) for f in features])  # [F, N]
    present = tf.math.is_finite(values)
    values = tf.where(present, values, tf.zeros_like(values))
    buckets = [
        tft.apply_buckets(column, boundaries[f.name])
        for f, column in zip(
            features, tf.unstack(values, len(features)), strict=True
        )
    ]
    ids = 1 + tf.stack(buckets)
    ids = tf.where(present, ids, tf.zeros_like(ids))
    names = [f.name for f in features]
    return dict(zip(names, tf.unstack(ids, len(names)), strict=True))


def _unscaled(features: list[NumericFeature], raw: _Raw) -> tf.Tensor:
    """float32 [N, len(features)], all columns at once."""
    if not features:
        return tf.zeros([raw.rows, 0])
    values = tf.stack([raw.numbers(f.name) for f in features], axis=1)
    defaults = tf.constant([[f.default for f in features]], tf.float32)
    values = tf.where(tf.math.is_finite(values), values, defaults)
    log, _ = _logs_and_scales(features)
    if any(log):
        logs = tf.sign(values) * tf.math.log1p(tf.abs(values))
        values = tf.where(tf.constant([log]), logs, values)
    return values


def _dense(
    features: list[NumericFeature], raw: _Raw, found: Analysis
) -> tf.Tensor:
    """float32 [N, len(features)], scaled."""
    values = _unscaled(features, raw)
    _, scale = _logs_and_scales(features)
    if any(scale):
        deviation = tf.sqrt(found.variance)
        deviation = tf.where(deviation > 0, deviation, tf.ones_like(deviation))
        scaled = (values - found.mean) / deviation
        values = tf.where(tf.constant([scale]), scaled, values)
    return values


def _logs_and_scales(
    features: list[NumericFeature],
) -> tuple[list[bool], list[bool]]:
    """Which numbers go through the logarithm, and which are scaled."""
    return (
        [f.transform in ("log1p", "log1p_zscore") for f in features],
        [f.transform in ("zscore", "log1p_zscore") for f in features],
    )
