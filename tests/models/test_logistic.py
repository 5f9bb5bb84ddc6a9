"""Logistic regression: its formula, and scikit-learn's on the same rows."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import OneHotEncoder

from models.architectures.registry import build_model
from models.config.training import ModelConfig, Negatives, TrainConfig
from models.preprocessing.id_space import Keys
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import logistic_regression, loop
from models.training.evaluation import Evaluation
from models.training.metrics import sigmoid
from optimizers.registry import build_optimizer

CONFIG = ModelConfig(name="models.architectures.logistic:build")
LAYOUT = Layout(
    (IdFeature("a", 30, 4), IdFeature("b", 8, 2), IdFeature("a_x_b", 40, 0)),
    (),
    ("x", "y"),
)


def rows(count: int, seed: int) -> tuple[dict[str, Any], Any]:
    """Inputs, and labels whose log-odds are a sum over ids and numbers."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, [30, 8, 40], (count, 3))
    dense = rng.normal(size=(count, 2))
    truth = np.random.default_rng(0)
    weights = [truth.normal(size=size) for size in (30, 8, 40)]
    odds = dense @ [1.0, -0.5] - 1
    odds += sum(w[ids[:, i]] for i, w in enumerate(weights))
    label = (rng.random(count) < sigmoid(odds)).astype(np.float32)
    inputs = {"ids": tf.constant(ids), "dense": tf.constant(dense, tf.float32)}
    return inputs, label


def test_it_is_its_formula() -> None:
    model = build_model(LAYOUT, CONFIG, 0.2)
    rng = np.random.default_rng(3)
    for variable in model.variables:
        variable.assign(rng.normal(size=variable.shape))
    w = {v.path: v.numpy() for v in model.variables}
    batch, _ = rows(9, 1)
    at = batch["ids"].numpy() + [0, 30, 38]
    expected = w["wide/table"][at, 0].sum(1)
    expected += (batch["dense"].numpy() @ w["deep/out/kernel"])[:, 0]
    expected += w["deep/out/bias"]
    np.testing.assert_allclose(model(batch).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(LAYOUT.single, (), ()),
        Layout((), (), ("x",)),
        Layout((), (IdFeature("tags", 9, 4),), ()),
    ],
    ids=["ids", "numbers", "lists"],
)
def test_it_starts_at_the_base_rate(layout: Layout) -> None:
    model = build_model(layout, CONFIG, 0.03)
    lists = tf.ragged.constant([[1, 2], [], [3]], dtype=tf.int64)
    found = model(
        {
            "ids": tf.zeros([3, len(layout.single)], tf.int64),
            "dense": tf.ones([3, len(layout.dense)]),
            "list_tags": lists,
        }
    )
    assert sigmoid(found.numpy()) == pytest.approx([0.03] * 3)


def scikit_learns(inputs: Any, label: Any, later: Any, truth: Any) -> float:
    """Logloss of its regression, of the later rows."""
    ids = [inputs["ids"].numpy(), later["ids"].numpy()]
    encoder = OneHotEncoder(handle_unknown="ignore").fit(ids[0])
    seen, unseen = (
        np.hstack([encoder.transform(i).toarray(), x["dense"].numpy()])
        for i, x in zip(ids, (inputs, later), strict=True)
    )
    judge = LogisticRegression(C=10, max_iter=1000).fit(seen, label)
    return float(log_loss(truth, judge.predict_proba(unseen)[:, 1]))


def test_the_first_line_of_a_comparison_is_no_worse_than_scikit_learns() -> (
    None
):
    """Its penalty is chosen by other rows."""
    (inputs, label), (later, truth) = rows(4000, 1), rows(4000, 2)
    train, held_out, test = (
        list(tf.data.Dataset.from_tensor_slices(given).batch(1000))
        for given in ((inputs, label), rows(2000, 3), (later, truth))
    )
    keys = {f.name: Keys("identity", f.size) for f in LAYOUT.single}
    fit = logistic_regression.fit(
        LAYOUT, keys, (), train, held_out, Negatives(), 4000
    )
    found = log_loss(truth, sigmoid(fit.logits(test)[:, 0]))
    assert found < scikit_learns(inputs, label, later, truth) + 1e-3
    assert fit.rows == 4000 and len(fit.penalties) == 1


def test_batches_at_even_distances_stand_for_a_log_beyond_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logistic_regression, "_VALUES", 5 * 2000)
    data = list(tf.data.Dataset.from_tensor_slices(rows(4000, 1)).batch(100))
    keys = {f.name: Keys("identity", f.size) for f in LAYOUT.single}
    fit = logistic_regression.fit(
        LAYOUT, keys, (), data, data[:10], Negatives(), 4000
    )
    assert fit.rows == 2000


def test_it_learns_what_scikit_learn_does() -> None:
    (inputs, label), (later, truth) = rows(4000, 1), rows(4000, 2)
    wanted = scikit_learns(inputs, label, later, truth)
    keras.utils.set_random_seed(1)
    model = build_model(LAYOUT, CONFIG, float(label.mean()))
    data = tf.data.Dataset.from_tensor_slices((inputs, label)).batch(64)
    test = tf.data.Dataset.from_tensor_slices((later, truth)).batch(4000)
    spec = {
        "name": "adagrad",
        "learning_rate": 3.0,
        "schedule": {"name": "cosine"},
    }
    config = TrainConfig(batch_size=64, epochs=4, eval_steps=1000)
    loop.train(model, build_optimizer(spec, 252), data, test, 4000, config)
    labels, logits = Evaluation(model).predict(test)
    assert log_loss(labels, sigmoid(logits)) == pytest.approx(wanted, abs=3e-3)
