"""Features of the shallow part: weights beside the network, not served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError
from scipy.stats import spearmanr

from models.architectures.registry import build_model
from models.config.features import Features
from models.config.training import ModelConfig, Negatives, TrainConfig
from models.errors import InputError
from models.export import Served, export
from models.keras_versions import start_afresh
from models.preprocessing.dummy_rows import empty_rows
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import IdFeature, Layout, layout
from models.preprocessing.preprocessing_fn import Analysis, transformed
from models.training import linear_start, loop
from models.training.calibration import centred
from models.training.evaluation import Evaluation
from models.training.metrics import sigmoid
from optimizers.registry import build_optimizer
from tests.examples import example

ADS, SLOTS, ROWS = 60, 6, 8000
LAYOUT = Layout(
    (IdFeature("ad", ADS, 4), IdFeature("user", 30, 4)),
    (),
    (),
    (IdFeature("slot", 1 + SLOTS, 8),),
)
ORDINARY = Layout(LAYOUT.single + LAYOUT.shallow, (), ())
WITHOUT = Layout(LAYOUT.single, (), ())
GIVEN: dict[str, Any] = {
    "numeric": [{"name": "depth", "transform": "buckets", "serve": "shallow"}],
    "categorical": [
        {"name": "slot", "encode": "identity", "buckets": 9,
         "serve": "shallow"},
        {"name": "ad", "encode": "hash", "buckets": 50},
        {"name": "who", "encode": "hash", "buckets": 70, "serve": "missing"},
    ],
    "crosses": [{"of": ["ad", "who"], "buckets": 10}],
}  # fmt: skip


def test_the_network_sees_nothing_of_them() -> None:
    features = Features.model_validate(GIVEN)
    shape = layout(features, lambda _: 0)
    assert [f.name for f in shape.single] == ["ad", "who", "ad_x_who"]
    assert [f.name for f in shape.shallow] == ["slot", "depth"]
    assert features.constants() == {"depth": None, "slot": None, "who": None}
    assert set(features.served_kinds()) == {"ad"}
    raw = {
        "depth": tf.constant([0.5, np.nan]),
        "slot": tf.constant([4, -1], tf.int64),
        "ad": tf.constant(["x", ""]),
        "who": tf.constant(["u", ""]),
    }
    bounds = tf.constant([[0.0] * 31])
    found = transformed(
        raw, features, Analysis({}, None, None, {"depth": bounds})
    )
    assert found.keys() == {"ids", "shallow_ids"}
    assert found["ids"].shape == (2, 3)
    assert found["shallow_ids"].numpy().tolist() == [[5, 32], [0, 0]]
    assert empty_rows(shape, 2)["shallow_ids"].shape == (2, 2)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("numeric", {"transform": "zscore"}, "accepted: `buckets`"),
        ("categorical", {"encode": "hash", "list": "|"}, "one value a row"),
        ("crosses", {"of": ["ad", "slot"]}, "without `serve: shallow`"),
    ],
)
def test_what_cannot_be_shallow_is_refused(
    kind: str, change: dict[str, Any], words: str
) -> None:
    given = json.loads(json.dumps(GIVEN))
    given[kind][0] |= change
    with pytest.raises(ValidationError, match=words):
        Features.model_validate(given)


@pytest.mark.parametrize(
    "name", ["wide_deep", "dcn_v2", "dlrm", "deepfm", "xdeepfm"]
)
def test_a_weight_of_each_value_is_added_and_left_out(name: str) -> None:
    start_afresh(1)
    model = build_model(LAYOUT, ModelConfig(name=name, hidden=(4,)), 0.2)
    table = model.shallow.table
    assert table.path == "shallow/table" and table.shape == (1 + SLOTS, 1)
    assert any(one is table for one in model.trainable_variables)
    inputs = drawn(1, 50)[0]
    alone = {"ids": inputs["ids"]}
    np.testing.assert_array_equal(model(inputs), model(alone))  # zero so far
    table.assign(np.arange(7.0)[:, None])
    slots = inputs["shallow_ids"].numpy()[:, 0]
    np.testing.assert_allclose(model(inputs) - model(alone), slots, atol=1e-5)


def test_a_model_without_weights_beside_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"slot: `serve: shallow`.*tfrs_dcn"):
        build_model(LAYOUT, ModelConfig(name="tfrs_dcn", hidden=(4,)), 0.2)


def test_the_mean_prediction_stays() -> None:
    rng = np.random.default_rng(1)
    logits, weights = rng.normal(-2, 1, 900), rng.uniform(0.1, 4, 900)
    others = logits + rng.choice([-1.0, 0.2, 2.0], 900)
    shift = centred(logits, others, weights)
    assert np.average(
        sigmoid(logits + shift), weights=weights
    ) == pytest.approx(np.average(sigmoid(others), weights=weights), abs=1e-9)
    assert centred(logits, logits, None) == 0


class Transform:
    """Its output is its input."""

    def transform_features_layer(self) -> Any:
        def layer(raw: Mapping[str, Any]) -> dict[str, Any]:
            dense = {
                name: tf.sparse.to_dense(tf.sparse.reset_shape(column, [3, 1]))
                for name, column in raw.items()
            }
            return {"ids": dense["ad"], "shallow_ids": 1 + dense["slot"]}

        return layer

    def raw_feature_spec(self) -> dict[str, Any]:
        return {n: tf.io.VarLenFeature(tf.int64) for n in ("slot", "ad")}


def test_a_request_gets_the_network_and_what_stands_for_the_rest(
    tmp_path: Path,
) -> None:
    one = {"encode": "identity", "buckets": 9}
    features = Features.model_validate(
        {
            "categorical": [
                {"name": "slot", "serve": "shallow", **one},
                {"name": "ad", **one},
            ]
        }
    )

    def model(inputs: Mapping[str, Any], training: bool) -> tf.Tensor:
        logit = 0.1 * tf.cast(inputs["ids"][:, 0], tf.float32)
        if "shallow_ids" in inputs:
            logit -= tf.cast(inputs["shallow_ids"][:, 0], tf.float32)
        return logit

    transform: Any = Transform()
    served = Served(model, transform, features, 0.5, served_shift=-0.25)
    export(served, str(tmp_path), {})
    signatures = tf.saved_model.load(str(tmp_path)).signatures
    rows = [example(ad=ad, slot=slot) for ad, slot in ((1, 0), (2, 3), (3, 1))]
    raw = {"ad": tf.constant([1, 2, 3], tf.int64)}
    wanted = sigmoid(np.array([0.1, 0.2, 0.3]) + 0.25)
    for found in (
        signatures["serving_default"](**raw),
        signatures["examples"](examples=tf.constant(rows)),
    ):
        np.testing.assert_allclose(found["ctr"], wanted, atol=1e-6)
    logged = signatures["examples_as_logged"](examples=tf.constant(rows))
    wanted = sigmoid(np.array([0.1 - 1, 0.2 - 4, 0.3 - 2]) + 0.5)
    np.testing.assert_allclose(logged["ctr"], wanted, atol=1e-6)


def drawn(seed: int, rows: int = ROWS) -> tuple[dict[str, Any], Any, Any]:
    """Rows of LAYOUT, clicks, and the logit of the ad for the user.

    Low slots are clicked more, and a ranker of the past gave them to the ads
    that it favoured, whatever they are worth.
    """
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    worth, favour = world.normal(size=ADS), world.normal(size=ADS)
    taste = world.normal(size=30)
    ad, user = rng.integers(0, ADS, rows), rng.integers(0, 30, rows)
    place = favour[ad] + 0.5 * rng.normal(size=rows)
    slot = np.digitize(-place, [-1.2, -0.5, 0, 0.5, 1.2])  # from 0
    logit = worth[ad] + 0.5 * taste[user] - 1
    clicked = rng.random(rows) < sigmoid(logit - 0.8 * slot)
    inputs = {
        "ids": tf.constant(np.stack([ad, user], 1), tf.int64),
        "shallow_ids": tf.constant(1 + slot[:, None], tf.int64),
    }
    return inputs, clicked.astype(np.float32), logit


def ranked(shape: Layout, start: bool) -> tuple[float, Any, Any]:
    """Rank correlation with the worth, and logits as served and as logged."""

    def rows(inputs: dict[str, Any]) -> dict[str, Any]:
        both = [inputs["ids"], inputs["shallow_ids"]]
        if shape is ORDINARY:
            return {"ids": tf.concat(both, 1)}
        return inputs if shape is LAYOUT else {"ids": inputs["ids"]}

    start_afresh(1)
    inputs, clicked, _ = drawn(1)
    config = ModelConfig(hidden=(8,))
    model = build_model(shape, config, float(clicked.mean()))
    data = tf.data.Dataset.from_tensor_slices((rows(inputs), clicked))
    if start:
        names = [f.name for f in shape.single + shape.shallow]
        sizes = [f.size for f in shape.single + shape.shallow]
        keys = {
            name: Keys("identity", size)
            for name, size in zip(names, sizes, strict=True)
        }
        some = data.batch(4096)
        linear_start.fit(shape, keys, some, some, Negatives()).give(model)
    else:
        loop.train(
            model,
            build_optimizer({"name": "adam", "learning_rate": 0.02}, 120, 3),
            data.batch(200),
            data.take(2000).batch(2000),
            ROWS,
            TrainConfig(batch_size=200, epochs=3),
        )
    fresh, labels, worth = drawn(2)
    evaluation = Evaluation(model)

    def logits(given: dict[str, Any]) -> Any:
        one = tf.data.Dataset.from_tensor_slices((given, labels)).batch(4096)
        return evaluation.predict(one)[1]

    served = rows(fresh)
    if shape is LAYOUT:
        served = {"ids": served["ids"]}
    found = logits(served)
    return float(spearmanr(found, worth)[0]), found, logits(rows(fresh))


@pytest.mark.parametrize(
    "start", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_the_served_ranking_is_nearer_to_the_truth(start: bool) -> None:
    without, ordinary = ranked(WITHOUT, start)[0], ranked(ORDINARY, start)[0]
    shallow, alone, whole = ranked(LAYOUT, start)
    print(without, ordinary, shallow)
    assert shallow > max(without, ordinary) + 0.1
    shift = centred(alone, whole, None)
    assert sigmoid(alone + shift).mean() == pytest.approx(
        sigmoid(whole).mean(), abs=1e-9
    )
