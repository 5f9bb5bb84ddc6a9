"""The linear start, against scikit-learn and what a training makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from models.architectures.registry import build_model
from models.config.training import (
    EarlyStopping,
    ModelConfig,
    Negatives,
    TrainConfig,
)
from models.errors import InputError
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import linear_start, loop
from models.training.evaluation import Evaluation
from models.training.linear_fit import Rows, path
from models.training.metrics import logloss_of_logits
from optimizers.registry import build_optimizer

ROWS, SIZES = 3000, (50, 8)
LAYOUT = Layout(
    single=tuple(IdFeature(n, s, 4) for n, s in zip("ab", SIZES, strict=True)),
    lists=(IdFeature("tags", 6, 4),),
    dense=("x", "y"),
)
KEYS = {
    "a": Keys("vocab", 50, 1),
    "b": Keys("vocab", 8),
    "tags": Keys("hash", 6),
}


def drawn(seed: int) -> tuple[dict[str, Any], Any]:
    """Inputs of LAYOUT, and clicks that follow from single effects."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    ids = np.stack([rng.zipf(1.5, ROWS) % s for s in SIZES], 1)
    lengths = rng.integers(0, 4, ROWS)
    tags = tf.RaggedTensor.from_row_lengths(
        rng.integers(0, 6, lengths.sum()), lengths
    )
    dense = rng.normal(size=(ROWS, 2)).astype(np.float32)
    logit = dense @ [0.7, -0.4] - 1
    for column, size in enumerate(SIZES):
        logit += world.normal(size=size)[ids[:, column]]
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    inputs = {"ids": tf.constant(ids), "dense": dense, "list_tags": tags}
    return inputs, label


def batched(rows: Any, size: int = 256) -> Any:
    return tf.data.Dataset.from_tensor_slices(rows).batch(size)


def matrix(inputs: dict[str, Any]) -> Any:
    """One-hot ids, shares of the list's, numbers."""
    ids, tags = inputs["ids"].numpy(), inputs["list_tags"].to_list()
    found = np.zeros((ROWS, sum(SIZES) + 6 + 2))
    for i in range(ROWS):
        found[i, [ids[i, 0], 50 + ids[i, 1]]] = 1
        for tag in tags[i]:
            found[i, 58 + tag] += 1 / len(tags[i])
    found[:, 64:] = inputs["dense"]
    return sparse.csr_matrix(found)


@pytest.mark.parametrize("negative", [1.0, 5.0])
def test_weights_are_those_of_scikit_learn(negative: float) -> None:
    inputs, label = drawn(1)
    tags = inputs["list_tags"]
    weight = np.where(label > 0, 1, negative)
    rows = Rows(
        inputs["ids"].numpy().T,
        [0, 50],
        [
            (
                tags.value_rowids().numpy(),
                58 + tags.flat_values.numpy(),
                1 / tags.row_lengths().numpy()[tags.value_rowids().numpy()],
            )
        ],
        inputs["dense"].astype(np.float64),
        label.astype(np.float64),
        weight,
        64,
    )
    scale = np.append(np.ones(66), 0.0)
    for penalty, found in path(rows, scale, (30.0, 3.0, 0.3)):
        truth = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=2000)
        truth.fit(matrix(inputs), label, weight)
        np.testing.assert_allclose(found[:-1], truth.coef_[0], atol=0.05)
        np.testing.assert_allclose(found[-1], truth.intercept_[0], atol=0.05)
        np.testing.assert_allclose(
            rows.logits(found),
            truth.decision_function(matrix(inputs)),
            atol=0.05,
        )


def begun(
    train: Any, held_out: Any, curves: bool | str = False, **settings: Any
) -> tuple[Any, Any]:
    keras.utils.set_random_seed(1)
    found = linear_start.fit(
        LAYOUT, KEYS, batched(train), batched(held_out), Negatives(), curves
    )
    shape = replace(LAYOUT, pieces=found.pieces)
    model = build_model(shape, ModelConfig(**settings), 0.3)
    found.give(model)
    return model, found.start


def best_regression(train: Any, held_out: Any, weight: Any = None) -> float:
    """The least held-out logloss of scikit-learn's, over all penalties."""
    found = []
    for penalty in linear_start._PENALTIES:
        truth = LogisticRegression(C=1 / penalty, max_iter=2000)
        truth.fit(matrix(train[0]), train[1], sample_weight=weight)
        chance = truth.predict_proba(matrix(held_out[0]))[:, 1]
        right = np.where(held_out[1] > 0, chance, 1 - chance)
        found.append(-np.mean(np.log(right)))
    return float(min(found))


def test_the_model_begins_as_the_best_of_the_regressions() -> None:
    train, held_out = drawn(1), drawn(2)
    model, start = begun(train, held_out)
    labels, logits = Evaluation(model).predict(batched(held_out))
    assert logloss_of_logits(labels, logits) == pytest.approx(
        start.logloss, abs=1e-3
    )
    assert start.logloss == pytest.approx(
        best_regression(train, held_out), abs=5e-4
    )
    assert start.logloss < 0.95 * start.constant
    resting = {v.path for v in model.variables} - {
        v.path for v in model.trainable_variables
    }
    assert {"wide/table", "deep/weight"} <= resting


def test_a_few_eval_rows_do_not_choose_the_penalty_alone() -> None:
    train, test = drawn(1), drawn(3)
    inputs, label = drawn(2)
    few = {name: x[:60] for name, x in inputs.items()}
    chance = np.random.default_rng(4).permutation(label[:60])
    model, start = begun(train, (few, chance))
    assert start.logloss > start.constant  # they know of no effect
    labels, logits = Evaluation(model).predict(batched(test))
    assert logloss_of_logits(labels, logits) == pytest.approx(
        best_regression(train, test), abs=5e-3
    )


def test_a_log_without_effects_begins_as_the_constant() -> None:
    found = []
    for seed in (1, 2):
        inputs, label = drawn(seed)
        chance = np.random.default_rng(seed).random(ROWS) < 0.02
        found.append((inputs, chance.astype(label.dtype)))
    _, start = begun(*found)
    assert start.logloss == pytest.approx(start.constant, abs=1e-4)


@pytest.mark.parametrize("clicks", [0, 4, 5, 1500])
def test_folds_leave_out_each_row_once_with_its_share_of_clicks(
    clicks: int,
) -> None:
    rng = np.random.default_rng(0)
    count = 2000
    of = np.flatnonzero(rng.random(count) < 0.4)
    rows = Rows(
        rng.integers(0, 9, (2, count)),
        [0, 0],
        [(of, rng.integers(9, 12, len(of)), rng.random(len(of)))],
        rng.normal(size=(count, 1)),
        rng.permutation(np.arange(count) < clicks).astype(float),
        rng.random(count),
        12,
    )
    weights = rng.normal(size=14)
    logits = rows.logits(weights)
    folds = list(linear_start._folds(rows))
    assert len(folds) == (5 if clicks >= 5 else 0)
    found = []
    for kept, left_out in folds:
        assert len(kept.label) + len(left_out.label) == count
        assert left_out.label.sum() == pytest.approx(clicks / 5, abs=1)
        found.append(left_out.logits(weights))
        np.testing.assert_allclose(
            np.sort(np.r_[kept.logits(weights), found[-1]]), np.sort(logits)
        )
    if folds:
        np.testing.assert_allclose(
            np.sort(np.concatenate(found)), np.sort(logits)
        )


def test_a_sample_chooses_the_penalty_and_all_rows_fit_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, held_out = drawn(1), drawn(2)
    monkeypatch.setattr(linear_start, "_ROWS", 1000)
    _, start = begun(train, held_out)
    assert start.logloss == pytest.approx(
        best_regression(train, held_out), abs=1e-3
    )


@pytest.mark.parametrize(
    ("clicks", "rate"), [(200, 0.2), (2500, 0.25), (6000, 0.6), (9900, 0.9)]
)
def test_a_sample_keeps_the_rarer_label_and_weighs_the_other(
    clicks: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_start, "_ROWS", 1000)
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(10_000) < clicks).astype(float)
    rows = Rows(
        rng.integers(0, 9, (1, 10_000)),
        [0],
        [],
        np.zeros((10_000, 0)),
        label,
        np.full(10_000, 3.0),
        9,
    )
    sample = linear_start._sample(rows)
    assert len(sample.label) == pytest.approx(1000, rel=0.1)
    assert sample.label.mean() == pytest.approx(rate, abs=0.04)
    rare = sample.label == (clicks < 5000)
    assert (sample.weight[rare] == 3).all()
    # The click rate stays that of all rows.
    share = sample.weight @ sample.label / sample.weight.sum()
    assert share == pytest.approx(clicks / 10_000, rel=0.1)
    monkeypatch.setattr(linear_start, "_ROWS", 10_000)
    assert linear_start._sample(rows) is rows


def test_a_start_that_stays_the_best_is_kept() -> None:
    train, held_out = drawn(1), drawn(2)
    model, start = begun(train, held_out, hidden=(8,))
    before = Evaluation(model).predict(batched(held_out))[1]
    result = loop.train(
        model,
        build_optimizer({"name": "lion", "learning_rate": 0.5}, 20),
        batched(train),
        batched(held_out),
        ROWS,
        TrainConfig(
            batch_size=256,
            epochs=5,
            eval_steps=4,
            linear_start=True,
            early_stopping=EarlyStopping(patience=2),
        ),
    )
    assert result.course.best == 0 and result.stopped_early
    assert result.eval_logloss == pytest.approx(start.logloss, abs=1e-3)
    after = Evaluation(model).predict(batched(held_out))[1]
    np.testing.assert_array_equal(before, after)


def test_values_that_are_in_no_vocabulary_share_a_cautious_weight() -> None:
    inputs, label = drawn(1)
    ids = inputs["ids"].numpy()
    ids[:, 0] = np.where(np.arange(ROWS) < 4, 49, 1)  # four rows, all clicked
    label[:4] = 1
    train = {**inputs, "ids": tf.constant(ids)}, label
    model, _ = begun(train, drawn(2))
    other, _ = begun(train, drawn(2))
    first = model.wide.lookup.first["a"]
    weight = float(model.wide.table.numpy()[first + 49, 0])
    assert 0 < weight < 0.3
    assert weight == float(other.wide.table.numpy()[first + 49, 0])


def test_weights_of_rows_count_as_in_scikit_learn() -> None:
    (inputs, label), (unseen, clicks) = drawn(1), drawn(2)
    weight = np.where(label > 0, 3.0, 1.0).astype(np.float32) * 40
    judged = np.ones(ROWS, np.float32)
    _, start = begun((inputs, label, weight), (unseen, clicks, judged))
    _, plain = begun((inputs, label), (unseen, clicks))
    assert start.logloss > plain.logloss + 0.02  # clicks are too likely now
    assert start.logloss == pytest.approx(
        best_regression(
            (inputs, label), (unseen, clicks), weight / weight.mean()
        ),
        abs=1e-3,
    )


def test_other_architectures_have_no_linear_part() -> None:
    with pytest.raises(InputError, match=r"linear_start.*dcn_v2"):
        begun(drawn(1), drawn(2), name="dcn_v2")
