"""Kinds of features do what they are for, on rows whose truth is known."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.architectures import ModelConfig
from models.config.training import Features
from models.preprocessing import analyzers
from models.preprocessing.id_space import keys_of, match
from models.preprocessing.input_layout import layout
from models.preprocessing.preprocessing_fn import observe, transformed
from models.preprocessing.transform_assets import size_of
from models.training import pretrained

ROWS = 12_000
Floats = npt.NDArray[np.float64]


def correlation(
    given: Mapping[str, Any],
    columns: Mapping[str, Any],
    logit: Floats,
    prepare: Callable[..., object] | None = None,
) -> float:
    """Correlation of a model's logits with the truth, on a third of the rows.

    The labels are drawn from `logit`; analysis and training see the others.

    Args:
        given: the section `features`, without `min_count`.
        columns: raw tensors of all rows.
        logit: [ROWS], the truth.
        prepare: what is done to the model before it is trained, with the
            features and a reader of vocabularies.
    """
    rng = np.random.default_rng(7)
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    features = Features.model_validate({"defaults": {"min_count": 1}, **given})
    train, test = _rows(columns, 0, 8000), _rows(columns, 8000, ROWS)
    with tempfile.TemporaryDirectory() as folder:
        seen = observe({**train, "label": tf.constant(label[:8000])}, features)
        parts = analyzers.parts(features)
        arrays = tf.nest.map_structure(lambda one: one.numpy(), seen)
        analyzers.add(parts, arrays)
        for part in parts:
            part.write(folder)
        texts = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
        shape = layout(features, lambda name: size_of(f"{folder}/{name}"))
        found = analyzers.with_tables(analyzers.read(features, folder))
        # Not eagerly: TFT would keep a tensor of it for its next graph.
        graph = tf.function(lambda rows: transformed(rows, features, found))
        inputs, unseen = graph(train), graph(test)
    keras.utils.set_random_seed(1)
    model = build_model(
        shape,
        ModelConfig(hidden=(32,), dropout=0.0, embedding_l2=0.0),
        float(label.mean()),
    )
    if prepare is not None:
        prepare(model, features, texts.__getitem__, {})
    _fit(model, inputs, label[:8000])
    return float(np.corrcoef(model(unseen), logit[8000:])[0, 1])


def _rows(columns: Mapping[str, Any], first: int, last: int) -> dict[str, Any]:
    return {
        name: tf.sparse.slice(
            value, [first, 0], [last - first, value.dense_shape[1]]
        )
        if isinstance(value, tf.SparseTensor)
        else value[first:last]
        for name, value in columns.items()
    }


def _fit(
    model: Any, inputs: Mapping[str, Any], label: npt.NDArray[np.int64]
) -> None:
    """Three hundred steps of Adam."""
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    inputs = {
        name: tf.RaggedTensor.from_sparse(value)
        if isinstance(value, tf.SparseTensor)
        else value
        for name, value in inputs.items()
    }
    data = tf.data.Dataset.from_tensor_slices((inputs, label.astype("f4")))

    @tf.function(reduce_retracing=True)
    def step(some: Any, wanted: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(
                    wanted, model(some, training=True)
                )
            )
        weights = model.trainable_variables
        optimizer.apply_gradients(
            zip(
                tape.gradient(loss, [w.value for w in weights]),
                weights,
                strict=True,
            )
        )

    for some, wanted in data.shuffle(8000, seed=1).batch(400).repeat(15):
        step(some, wanted)


@pytest.mark.ci
def test_log_buckets_and_an_indicator_find_what_one_number_hides() -> None:
    rng = np.random.default_rng(1)
    count = np.floor(np.exp(rng.normal(2, 2.5, ROWS)))
    logit = 1.5 * np.sin(2.5 * np.log1p(count))
    missing = rng.random(ROWS) < 0.3
    logit[missing] = 2.0
    column = tf.constant(np.where(missing, np.nan, count), tf.float32)
    found = {
        name: correlation(
            {"numeric": [{"name": "count", **settings}]},
            {"count": column},
            logit,
        )
        for name, settings in {
            "one number": {},
            "indicator": {"missing": "indicator"},
            "log buckets": {"transform": "log_buckets"},
            "pieces": {"missing": "indicator", "pieces": 16},
        }.items()
    }
    print(found)
    assert found["indicator"] > found["one number"] + 0.1
    assert found["log buckets"] > 0.95
    assert found["pieces"] > found["indicator"] + 0.05


@pytest.mark.ci
def test_a_bound_takes_the_weight_off_absurd_numbers() -> None:
    rng = np.random.default_rng(1)
    age = rng.uniform(0, 60, ROWS)
    logit = 2 * np.sin(age / 10)
    age = np.where(rng.random(ROWS) < 0.01, 1e9, age)
    found = {
        transform: [
            correlation(
                {"numeric": [{"name": "age", "transform": transform, **clip}]},
                {"age": tf.constant(age, tf.float32)},
                logit,
            )
            for clip in ({}, {"clip": [0, 100]})
        ]
        for transform in ("zscore", "min_max")
    }
    print(found)
    for without, within in found.values():
        assert within > without + 0.7


@pytest.mark.parametrize(
    "frozen", [True, pytest.param(False, marks=pytest.mark.ci)]
)
def test_pretrained_vectors_tell_rare_values_apart(
    tmp_path: Path, frozen: bool
) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(6000, 8)).astype(np.float32)
    ads = rng.integers(0, 6000, ROWS)  # two rows of each
    logit = (vectors @ rng.normal(size=8))[ads]
    np.save(tmp_path / "ads.npy", vectors)
    names = [f"ad{number}" for number in range(6000)]
    (tmp_path / "ads.txt").write_text("\n".join(names) + "\n")
    feature = {"name": "ad", "dim": 8}
    files = {"path": f"{tmp_path}/ads.npy", "ids": f"{tmp_path}/ads.txt"}
    column = tf.constant([names[ad] for ad in ads])
    with_vectors = {**feature, "pretrained": {**files, "frozen": frozen}}
    found = {
        name: correlation({"categorical": [one]}, {"ad": column}, logit, *more)
        for name, one, *more in (
            ("without", feature),
            ("with", with_vectors, pretrained.give),
        )
    }
    print(found)
    assert found["with"] > found["without"] + 0.1


def test_a_vector_and_its_absence_are_learned() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(ROWS, 8)).astype(np.float32)
    logit = vectors @ rng.normal(size=8) * 0.7
    missing = rng.random(ROWS) < 0.2
    logit[missing] = 2.0
    vectors[missing] = np.nan
    assert (
        correlation(
            {"vectors": [{"name": "item", "size": 8}]},
            {"item": tf.constant(vectors)},
            logit,
        )
        > 0.97
    )


@pytest.mark.ci
def test_weights_find_what_a_mean_of_all_values_hides() -> None:
    rng = np.random.default_rng(1)
    effects = rng.normal(size=30)
    values = rng.integers(0, 30, (ROWS, 3))
    weights = rng.exponential(size=(ROWS, 3)) ** 2
    shares = weights / weights.sum(1, keepdims=True)
    logit = 3 * (shares * effects[values]).sum(1)
    texts = [
        "|".join(f"t{v}:{w:.4g}" for v, w in zip(*row, strict=True))
        for row in zip(values, weights, strict=True)
    ]
    bare = [re.sub(":[^|]*", "", text) for text in texts]
    found = {
        name: correlation(
            {"categorical": [{"name": "tags", "list": "|", **settings}]},
            {"tags": tf.strings.split(column, "|").to_sparse()},
            logit,
        )
        for name, settings, column in (
            ("without", {}, bare),
            ("with", {"weights": ":"}, texts),
        )
    }
    print(found)
    assert found["with"] > 0.95
    assert found["with"] > found["without"] + 0.1


def test_buckets_of_another_kind_are_not_carried_to_the_next_day() -> None:
    quantiles, logarithms = (
        keys_of(
            Features.model_validate({"numeric": [{"name": "n", **one}]}),
            {"n": 1026},
        )["n"]
        for one in (
            {"transform": "buckets", "buckets": 1025},
            {"transform": "log_buckets"},
        )
    )
    nothing: Any = None
    assert match(logarithms, logarithms, nothing).counts["kept"] == 1025
    assert match(quantiles, logarithms, nothing).counts["kept"] == 0
