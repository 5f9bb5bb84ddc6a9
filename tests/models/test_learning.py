"""Model, loop, metrics and export, each against an independent truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score
from tensorflow_transform.tf_metadata import metadata_io

from models.architectures.registry import build_model
from models.config.training import (
    EarlyStopping,
    Features,
    ModelConfig,
    Negatives,
    TrainConfig,
)
from models.export import Served, export
from models.preprocessing.input_layout import IdFeature, Layout, layout
from models.preprocessing.preprocessing_fn import preprocessing_fn
from models.training import loop, metrics
from models.training.evaluation import Evaluation
from optimizers.registry import build_optimizer
from tests.models.test_vocabulary import METADATA, rows

LAYOUT = Layout(
    single=(
        IdFeature("a", 5, 4),
        IdFeature("b", 6, 2),
        IdFeature("a_x_b", 7, 0),
    ),
    lists=(IdFeature("tags", 3, 4),),
    dense=("x", "y"),
)


def inputs(count: int, seed: int = 1) -> dict[str, Any]:
    """Random inputs of LAYOUT; every other list is empty."""
    rng = np.random.default_rng(seed)
    sizes = [f.size for f in LAYOUT.single]
    lengths = np.arange(count) % 3
    return {
        "ids": tf.constant(rng.integers(0, sizes, (count, 3)), tf.int64),
        "dense": tf.constant(rng.normal(size=(count, 2)), tf.float32),
        "list_tags": tf.RaggedTensor.from_row_lengths(
            tf.constant(rng.integers(0, 3, lengths.sum()), tf.int64), lengths
        ),
    }


def test_wide_and_deep_is_its_formula() -> None:
    model = build_model(LAYOUT, ModelConfig(hidden=(8, 3)), 0.2)
    rng = np.random.default_rng(3)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    w = {v.path: v.numpy() for v in model.variables}
    batch = inputs(9)
    ids, dense = batch["ids"].numpy(), batch["dense"].numpy()
    expected = []
    for i in range(9):
        tags = batch["list_tags"][i].numpy()

        def mean(table: Any, first: int, tags: Any = tags) -> Any:
            if not len(tags):
                return np.zeros(table.shape[1])
            return table[first + tags].mean(axis=0)

        wide = w["wide/table"]
        logit = wide[ids[i] + [0, 5, 11]].sum() + mean(wide, 18).sum()
        two, four = (
            w["deep/embedding_2/table"],
            w["deep/embedding_4/table"],
        )
        h = np.concatenate(
            [two[ids[i, 1]], four[ids[i, 0]], mean(four, 5), dense[i]]
        )
        for name in ("hidden_0", "hidden_1"):
            h = np.maximum(
                h @ w[f"deep/{name}/kernel"] + w[f"deep/{name}/bias"], 0
            )
        expected.append(
            logit
            + dense[i] @ w["deep/weight"]
            + (h @ w["deep/out/kernel"] + w["deep/out/bias"])[0]
        )
    np.testing.assert_allclose(model(batch).numpy(), expected, rtol=1e-4)


def test_an_untrained_model_predicts_about_the_base_rate() -> None:
    model = build_model(LAYOUT, ModelConfig(), 0.03)
    mean = tf.reduce_mean(tf.sigmoid(model(inputs(500)))).numpy()
    assert mean == pytest.approx(0.03, rel=0.3)


def test_gradients_of_the_tables_stay_sparse() -> None:
    model = build_model(LAYOUT, ModelConfig(), 0.5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(inputs(4)))
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, gradients, strict=True
    ):
        is_table = variable.path.endswith("/table")
        assert isinstance(gradient, tf.IndexedSlices) == is_table


def learnable(count: int, seed: int) -> Any:
    """A dataset whose label depends on `a` and x."""
    batch = inputs(count, seed)
    score = batch["dense"][:, 0] + tf.cast(batch["ids"][:, 0], tf.float32) - 2
    label = tf.cast(score > 0, tf.float32)
    return tf.data.Dataset.from_tensor_slices((batch, label))


@pytest.mark.parametrize("name", ["lion", "adam", "sgd"])
def test_training_learns_and_reports(tmp_path: Path, name: str) -> None:
    keras.utils.set_random_seed(1)
    model = build_model(LAYOUT, ModelConfig(hidden=(16,)), 0.5)
    rate = {"lion": 0.01, "adam": 0.01, "sgd": 0.5}[name]
    config = TrainConfig(batch_size=64, epochs=4)
    result = loop.train(
        model,
        build_optimizer({"name": name, "learning_rate": rate}, 64),
        learnable(1000, 1).batch(64),
        learnable(500, 2).batch(64),
        1000,
        config,
        str(tmp_path),
    )
    assert result.steps == 64
    assert result.examples == 4000
    assert result.eval_auc > 0.95
    labels, logits = Evaluation(model).predict(learnable(1000, 1).batch(100))
    assert result.train_auc == pytest.approx(roc_auc_score(labels, logits))
    labels, logits = Evaluation(model).predict(learnable(500, 2).batch(100))
    assert result.eval_logloss == pytest.approx(
        log_loss(labels, metrics.sigmoid(logits)), rel=1e-4
    )
    events = list(tmp_path.rglob("events*"))
    assert events and events[0].stat().st_size > 500


@pytest.mark.parametrize(
    "reweight", [False, pytest.param(True, marks=pytest.mark.ci)]
)
def test_probabilities_are_right_where_negatives_were_left_out(
    reweight: bool,
) -> None:
    # One feature, of which each value has a click rate of its own.
    rng = np.random.default_rng(1)
    rates = np.array([0.02, 0.05, 0.1, 0.2, 0.4])
    ids = rng.integers(0, 5, 40_000)
    clicks = rng.random(40_000) < rates[ids]
    sampling = Negatives(keep=0.2, reweight=reweight)
    chosen = clicks | (rng.random(40_000) < sampling.keep)

    def data(rows: Any) -> Any:
        found, labels = ids[rows], clicks[rows].astype(np.float32)
        zeros = np.zeros((len(found), 2))
        batch = {
            "ids": np.column_stack([found, zeros]).astype(np.int64),
            "dense": zeros.astype(np.float32),
            "list_tags": tf.RaggedTensor.from_row_lengths(
                np.zeros(0, np.int64), np.zeros(len(found), np.int64)
            ),
        }
        return tf.data.Dataset.from_tensor_slices((batch, labels))

    keras.utils.set_random_seed(1)
    model = build_model(LAYOUT, ModelConfig(hidden=(8,)), 0.3)
    rows = int(chosen.sum())
    everything = data(np.arange(40_000)).batch(4096)
    result = loop.train(
        model,
        build_optimizer(
            {
                "name": "adam",
                "learning_rate": 0.02,
                "schedule": {"name": "cosine"},
            },
            4 * rows // 256,
        ),
        data(chosen).shuffle(rows, seed=1).batch(256),
        everything,
        rows,
        TrainConfig(
            batch_size=256, epochs=4, eval_steps=10_000, observe_steps=10_000
        ),
        negatives=sampling,
    )
    _, logits = Evaluation(model).predict(everything)
    found = metrics.sigmoid(logits + sampling.shift)
    for value, rate in enumerate(rates):
        assert found[ids == value].mean() == pytest.approx(rate, rel=0.25)
    assert metrics.calibration(clicks, found) == pytest.approx(1, abs=0.06)
    best = log_loss(clicks, rates[ids])
    assert result.eval_logloss == pytest.approx(best, rel=0.01)
    assert result.train_logloss == pytest.approx(best, rel=0.03)


def test_early_stopping_keeps_the_best_weights() -> None:
    keras.utils.set_random_seed(1)
    model = build_model(LAYOUT, ModelConfig(hidden=(16,)), 0.5)
    coins = np.random.default_rng(1).integers(0, 2, 64).astype(np.float32)
    noise = tf.data.Dataset.from_tensor_slices((inputs(64), coins))
    test = learnable(300, 2).batch(300)
    config = TrainConfig(
        batch_size=16,
        epochs=50,
        early_stopping=EarlyStopping(patience=2),
    )
    result = loop.train(
        model,
        build_optimizer({"name": "adam", "learning_rate": 0.05}, 200),
        noise.batch(16),
        test,
        64,
        config,
    )
    assert result.stopped_early
    assert result.steps < 200
    labels, logits = Evaluation(model).predict(test)
    assert metrics.logloss_of_logits(labels, logits) == pytest.approx(
        result.eval_logloss, rel=1e-5
    )


def test_divergence_is_an_error_with_advice() -> None:
    model = build_model(LAYOUT, ModelConfig(hidden=(16,)), 0.5)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        loop.train(
            model,
            build_optimizer({"name": "sgd", "learning_rate": 1e30}, 100),
            learnable(1000, 1).batch(10),
            learnable(10, 2).batch(10),
            1000,
            TrainConfig(batch_size=10),
        )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=40
    )
)
def test_metrics_are_those_of_scikit_learn(
    pairs: list[tuple[bool, int]],
) -> None:
    labels = np.array([y for y, _ in pairs])
    logits = np.array([float(z) for _, z in pairs])
    assert metrics.logloss_of_logits(labels, logits) == pytest.approx(
        log_loss(labels, metrics.sigmoid(logits), labels=[0, 1]), rel=1e-9
    )
    if labels.all() or not labels.any():
        assert np.isnan(metrics.auc(labels, logits))
    else:
        assert metrics.auc(labels, logits) == pytest.approx(
            roc_auc_score(labels, logits)
        )


def test_extreme_logits_have_a_finite_loss() -> None:
    assert metrics.logloss_of_logits([1, 0], [1e4, -1e4]) == 0
    assert metrics.logloss_of_logits([0], [1e4]) == 1e4


LOAD = """
import json, sys
import numpy as np, tensorflow as tf
rows = json.load(open(sys.argv[2]))
raw = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
out = raw(
    c1=tf.constant([(r["c1"] or [""])[0] for r in rows]),
    tags=tf.constant(["|".join(r["tags"]) for r in rows]),
    n1=tf.constant([(r["n1"] or [np.nan])[0] for r in rows], tf.float32))
print(json.dumps(out["ctr"].numpy().tolist()))
"""


@pytest.mark.parametrize(
    "keep",
    [
        pytest.param(1.0, marks=pytest.mark.slow),
        pytest.param(0.1, marks=pytest.mark.ci),
    ],
)
def test_the_export_is_the_trainers_model_to_a_millionth(
    tmp_path: Path, keep: float
) -> None:
    data = rows(300)
    section = {
        "categorical": [{"name": "c1"}, {"name": "tags", "list": "|"}],
        "numeric": [{"name": "n1"}],
    }
    with tft_beam.Context(temp_dir=str(tmp_path / "tmp")):
        (_, _), transform_fn = (
            data,
            METADATA,
        ) | tft_beam.AnalyzeAndTransformDataset(
            lambda x: preprocessing_fn(x, {"features": section})
        )
        _ = transform_fn | tft_beam.WriteTransformFn(str(tmp_path / "out"))
    metadata_io.write_metadata(METADATA, str(tmp_path / "out" / "metadata"))
    transform = tft.TFTransformOutput(str(tmp_path / "out"))
    features = Features.model_validate(section)
    assets = Path(transform.transform_savedmodel_dir) / "assets"
    shape = layout(
        features, lambda n: len((assets / n).read_bytes().split(b"\n")) - 1
    )
    model = build_model(shape, ModelConfig(hidden=(8,)), 0.3)
    for variable in model.trainable_variables:
        variable.assign(
            np.random.default_rng(1).normal(size=variable.shape, scale=0.5)
        )
    layer = transform.transform_features_layer()
    spec = {
        n: tf.io.VarLenFeature(t)
        for n, t in (("c1", tf.string), ("tags", tf.string), ("n1", tf.float32))
    }
    serialized = []
    for row in data:
        features_map = {}
        for name in ("c1", "tags"):
            features_map[name] = tf.train.Feature(
                bytes_list=tf.train.BytesList(
                    value=[v.encode() for v in row[name]]
                )
            )
        features_map["n1"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=row["n1"])
        )
        serialized.append(
            tf.train.Example(
                features=tf.train.Features(feature=features_map)
            ).SerializeToString()
        )
    transformed = layer(tf.io.parse_example(serialized, spec))
    if isinstance(transformed["list_tags"], tf.SparseTensor):
        transformed["list_tags"] = tf.RaggedTensor.from_sparse(
            transformed["list_tags"]
        )
    q = tf.sigmoid(model(transformed)).numpy()
    expected = q / (q + (1 - q) / keep)

    shift = Negatives(keep=keep).shift
    served = Served(model, transform, features, shift)
    export(served, str(tmp_path / "m"), {})
    (tmp_path / "rows.json").write_text(json.dumps(data))
    result = subprocess.run(
        [sys.executable, "-c", LOAD]
        + [str(tmp_path / "m"), str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    np.testing.assert_allclose(
        json.loads(result.stdout), expected, rtol=0, atol=1e-6
    )
    assert expected.std() > 0.01
