"""Weights of rows in the loss and in the metrics of a training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from models.architectures.registry import build_model
from models.config.training import ModelConfig, Negatives, TrainConfig
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import loop, metrics
from models.training.evaluation import Evaluation
from optimizers.registry import build_optimizer

LAYOUT = Layout(single=(IdFeature("a", 6, 4),), lists=(), dense=())
RNG = np.random.default_rng(3)
IDS = RNG.integers(0, 6, 512)
LABELS = (RNG.random(512) < 0.1 + 0.1 * IDS).astype(np.float32)
WEIGHTS = RNG.integers(1, 5, 512).astype(np.float32)
SGD = {"name": "sgd", "learning_rate": 0.1}


def dataset(ids: Any, labels: Any, weights: Any = None) -> Any:
    columns = [{"ids": ids[:, None].astype(np.int64)}, labels]
    if weights is not None:
        columns.append(weights.astype(np.float32))
    return tf.data.Dataset.from_tensor_slices(tuple(columns))


def fit(
    data: Any,
    held_out: Any,
    rows: int,
    batch: int = 64,
    spec: Any = SGD,
    mean_weight: float = 1.0,
    **more: Any,
) -> tuple[Any, loop.Result]:
    keras.utils.set_random_seed(1)
    model = build_model(LAYOUT, ModelConfig(hidden=(8,), dropout=0.0), 0.3)
    config = TrainConfig(batch_size=batch, epochs=4, observe_steps=6)
    optimizer = build_optimizer(dict(spec), 4 * -(-rows // batch))
    result = loop.train(
        model,
        optimizer,
        data.batch(batch),
        held_out.batch(256),
        rows,
        config,
        mean_weight=mean_weight,
        **more,
    )
    return model, result


def test_weights_of_one_give_the_bits_of_no_weights() -> None:
    spec = {"name": "lion", "learning_rate": 0.01}
    plain = dataset(IDS, LABELS)
    ones = dataset(IDS, LABELS, np.ones(512))
    model, result = fit(plain, plain, 512, spec=spec)
    other, weighted = fit(ones, ones, 512, spec=spec)
    for one, two in zip(model.weights, other.weights, strict=True):
        assert np.array_equal(one.numpy(), two.numpy())
    assert result.eval_logloss == weighted.eval_logloss
    assert result.train_auc == weighted.train_auc


def test_a_row_of_weight_three_is_three_rows() -> None:
    counts = WEIGHTS.astype(int)
    several = dataset(np.repeat(IDS, counts), np.repeat(LABELS, counts))
    weighted = dataset(IDS, LABELS, WEIGHTS)
    rows = int(counts.sum())
    model, result = fit(several, several, rows, batch=rows)
    other, again = fit(
        weighted, weighted, 512, batch=512, mean_weight=float(WEIGHTS.mean())
    )
    for one, two in zip(model.weights, other.weights, strict=True):
        assert one.numpy() == pytest.approx(two.numpy(), abs=2e-6)
    for name in ("eval_logloss", "eval_auc", "train_logloss", "train_auc"):
        assert getattr(again, name) == pytest.approx(
            getattr(result, name), abs=1e-6
        )
    assert again.course.constant == pytest.approx(result.course.constant)


def test_a_batch_counts_by_its_weights() -> None:
    # One batch of old rows, one of new ones: the old ones hardly count.
    old = np.arange(512) < 256
    labels = np.where(old, 1.0, 0.0).astype(np.float32)
    weights = np.where(old, 0.01, 1.0)
    data = dataset(np.zeros(512), labels, weights)
    model, _ = fit(
        data,
        data,
        512,
        batch=256,
        spec={"name": "sgd", "learning_rate": 0.3},
        mean_weight=float(weights.mean()),
    )
    _, logits = Evaluation(model).predict(data.batch(512))
    assert metrics.sigmoid(logits).mean() < 0.2


def test_metrics_are_those_of_scikit_learn() -> None:
    data = dataset(IDS, LABELS, WEIGHTS)
    model, _ = fit(data, data, 512, mean_weight=float(WEIGHTS.mean()))
    evaluation = Evaluation(model)
    scores = evaluation.scores(data.batch(100))
    p = metrics.sigmoid(evaluation.predict(data.batch(100))[1])
    assert scores.logloss == pytest.approx(
        log_loss(LABELS, p, sample_weight=WEIGHTS)
    )
    assert scores.auc == pytest.approx(
        roc_auc_score(LABELS, p, sample_weight=WEIGHTS)
    )
    rate = np.average(LABELS, weights=WEIGHTS)
    assert scores.calibration == pytest.approx(
        np.average(p, weights=WEIGHTS) / rate
    )
    assert evaluation.constant == pytest.approx(
        log_loss(LABELS, np.full(512, rate), sample_weight=WEIGHTS)
    )


@pytest.mark.parametrize(
    "reweight", [False, pytest.param(True, marks=pytest.mark.ci)]
)
def test_sampled_negatives_are_corrected_under_weights(reweight: bool) -> None:
    """The odds of a weighted row are those of values: v1 p / (v0 (1 - p))."""
    rng = np.random.default_rng(1)
    rates = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.3])
    values = np.array([1.0, 4.0, 2.0, 0.5, 1.5, 3.0])  # of a click
    ids = rng.integers(0, 6, 60_000)
    clicks = rng.random(60_000) < rates[ids]
    weights = np.where(clicks, values[ids] * rng.exponential(1, 60_000), 1.0)
    sampling = Negatives(keep=0.2, reweight=reweight)
    chosen = clicks | (rng.random(60_000) < sampling.keep)
    labels = clicks.astype(np.float32)
    sums = np.where(labels[chosen] > 0, 1.0, sampling.weight)
    everything = dataset(ids, labels, weights)
    model, result = fit(
        dataset(ids[chosen], labels[chosen], weights[chosen]),
        everything,
        int(chosen.sum()),
        batch=256,
        spec={
            "name": "adam",
            "learning_rate": 0.02,
            "schedule": {"name": "cosine"},
        },
        mean_weight=float(np.average(weights[chosen], weights=sums)),
        negatives=sampling,
    )
    evaluation = Evaluation(model, sampling.shift)
    found = metrics.sigmoid(evaluation.predict(everything.batch(4096))[1])
    for value, (rate, worth) in enumerate(zip(rates, values, strict=True)):
        true = worth * rate / (worth * rate + 1 - rate)
        assert found[ids == value].mean() == pytest.approx(true, rel=0.15)
    assert metrics.calibration(labels, found, weights) == pytest.approx(
        1, abs=0.05
    )
    assert result.train_logloss == pytest.approx(result.eval_logloss, rel=0.05)
