"""Raw features to model inputs: the only place where this is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from models.config import LABEL, CategoricalFeature, Features, NumericFeature
from models.layout import DENSE, IDS, LABEL_COUNTS, LISTS, asset_name
from models.vocabulary import EMPTY_VOCABULARY, Vocabularies, Vocabulary

Tensors = dict[str, Any]


def preprocessing_fn(
    inputs: Mapping[str, Any], custom_config: Mapping[str, Any]
) -> Tensors:
    """TFX Transform's entry point; `models.layout` says what comes out.

    Args:
        inputs: raw feature name -> SparseTensor with at most one value a row.
        custom_config: {"features": the config section as a mapping}.
    """
    features = Features.model_validate(custom_config["features"])
    rows = _row_count(inputs)
    raw = _Raw(inputs, rows)
    vocabularies = _vocabularies(features.categorical, raw)
    outputs: Tensors = {}
    ids: list[tf.Tensor] = []
    for f in features.categorical:
        found = _category_ids(f, raw, vocabularies)
        if f.list is None:
            ids.append(found)
        else:
            outputs[LISTS + f.name] = found
    by_name = dict(
        zip(
            (f.name for f in features.categorical if f.list is None),
            ids,
            strict=True,
        )
    )
    for number in features.numeric:
        if number.transform == "buckets":
            by_name[number.name] = _bucket_ids(number, raw)
            ids.append(by_name[number.name])
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
    dense = [f for f in features.numeric if f.transform != "buckets"]
    if dense:
        outputs[DENSE] = _dense(dense, raw)
    if LABEL in inputs:
        outputs[LABEL] = raw.column(LABEL, 0)
    return outputs


class _Raw:
    """Dense columns of the raw inputs, each made once."""

    def __init__(self, inputs: Mapping[str, Any], rows: tf.Tensor) -> None:
        self._inputs = inputs
        self.rows = rows
        self._text: dict[str, tf.Tensor] = {}

    def column(self, name: str, default: Any) -> tf.Tensor:
        """[N]; `default` where missing, or everywhere if never seen."""
        sparse = self._inputs.get(name)
        if sparse is None:
            return tf.fill([self.rows], default)
        if not isinstance(sparse, tf.SparseTensor):
            return tf.reshape(sparse, [-1])
        # Shape [N, 1] from the rows that have a value: with no value in the
        # batch the width of the input is 0.
        column = tf.SparseTensor(
            sparse.indices, sparse.values, [sparse.dense_shape[0], 1]
        )
        default = tf.cast(default, sparse.dtype)
        return tf.squeeze(tf.sparse.to_dense(column, default), 1)

    def text(self, name: str) -> tf.Tensor:
        """string [N], "" where missing."""
        if name not in self._text:
            self._text[name] = self.column(name, "")
        return self._text[name]

    def numbers(self, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 [N] with NaN where missing, and whether it is there."""
        values = tf.cast(self.column(name, float("nan")), tf.float32)
        return values, tf.math.is_finite(values)

    def parts(self, feature: CategoricalFeature) -> tf.RaggedTensor:
        """The values of a list feature, string [N, (ragged)]."""
        text = self.text(feature.name)
        parts = tf.strings.split(text, sep=feature.list)
        return tf.ragged.boolean_mask(parts, tf.not_equal(parts, ""))


def _row_count(inputs: Mapping[str, Any]) -> tf.Tensor:
    first = next(iter(inputs.values()))
    if isinstance(first, tf.SparseTensor):
        return tf.cast(first.dense_shape[0], tf.int32)
    return tf.shape(first)[0]


def _vocabularies(
    features: tuple[CategoricalFeature, ...], raw: _Raw
) -> dict[str, tf.Tensor]:
    """Feature name -> file name tensor of its vocabulary, in one pass."""
    wanted = [f for f in features if f.encode == "vocab"]
    columns = [tf.cast(raw.column(LABEL, 0), tf.int64)] + [
        raw.text(f.name) if f.list is None else raw.parts(f).flat_values
        for f in wanted
    ]
    files = tft.experimental.ptransform_analyzer(
        inputs=columns,
        ptransform=Vocabularies(
            LABEL_COUNTS,
            [
                Vocabulary(asset_name(f), f.min_count, f.max_size)
                for f in wanted
            ],
        ),
        output_dtypes=[tf.string] * len(columns),
        output_shapes=[[]] * len(columns),
        output_asset_default_values=[b"0\n0"]
        + [EMPTY_VOCABULARY] * len(wanted),
        name="vocabularies",
    )
    return {f.name: file for f, file in zip(wanted, files[1:], strict=True)}


def _category_ids(
    feature: CategoricalFeature,
    raw: _Raw,
    vocabularies: Mapping[str, tf.Tensor],
) -> Any:
    """int64 [N], or ragged [N, (values)] for a list; 0 is missing."""
    if feature.encode == "identity":
        number = tf.cast(raw.column(feature.name, -1), tf.int64)
        inside = (number >= 0) & (number < feature.buckets)
        return tf.where(inside, number + 1, tf.zeros_like(number))
    if feature.list is not None:
        parts = raw.parts(feature)
        return parts.with_flat_values(
            _ids(feature, parts.flat_values, vocabularies)
        )
    text = raw.text(feature.name)
    found = _ids(feature, text, vocabularies)
    return tf.where(tf.equal(text, ""), tf.zeros_like(found), found)


def _ids(
    feature: CategoricalFeature,
    text: tf.Tensor,
    vocabularies: Mapping[str, tf.Tensor],
) -> tf.Tensor:
    """Ids from 1 on of values that are not missing."""
    if feature.encode == "hash":
        return 1 + tf.strings.to_hash_bucket_fast(text, feature.buckets)
    return 1 + tft.apply_vocabulary(
        text,
        deferred_vocab_filename_tensor=vocabularies[feature.name],
        num_oov_buckets=feature.oov_buckets,
    )


def _bucket_ids(feature: NumericFeature, raw: _Raw) -> tf.Tensor:
    """int64 [N]: quantile bucket from 1 on, 0 where missing."""
    values, present = raw.numbers(feature.name)
    boundaries = tft.quantiles(
        tf.boolean_mask(values, present), feature.buckets, epsilon=0.001
    )
    bucket = 1 + tft.apply_buckets(
        tf.where(present, values, tf.zeros_like(values)), boundaries
    )
    return tf.where(present, bucket, tf.zeros_like(bucket))


def _dense(features: list[NumericFeature], raw: _Raw) -> tf.Tensor:
    """float32 [N, len(features)], all columns at once."""
    columns = []
    for f in features:
        values, present = raw.numbers(f.name)
        default = tf.constant(f.default, tf.float32)
        columns.append(tf.where(present, values, default))
    values = tf.stack(columns, axis=1)
    log = [f.transform in ("log1p", "log1p_zscore") for f in features]
    if any(log):
        logs = tf.sign(values) * tf.math.log1p(tf.abs(values))
        values = tf.where(tf.constant([log]), logs, values)
    scale = [f.transform in ("zscore", "log1p_zscore") for f in features]
    if any(scale):
        mean = tft.mean(values, reduce_instance_dims=False)
        deviation = tf.sqrt(tft.var(values, reduce_instance_dims=False))
        deviation = tf.where(deviation > 0, deviation, tf.ones_like(deviation))
        scaled = (values - mean) / deviation
        values = tf.where(tf.constant([scale]), scaled, values)
    return values
