"""Several labels: names of outputs, networks, and the loss of a row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.labels import UNKNOWN, Label, outputs
from models.config.training import ModelConfig, Negatives, TrainConfig
from models.contracts.rows import PLAIN, inputs
from models.errors import InputError
from models.input_pipeline.label_columns import label_rows
from models.keras_versions import start_afresh
from models.losses.registry import Loss
from models.preprocessing.input_layout import IdFeature, LabelInput, Layout
from models.training import loop
from models.training.evaluation import Evaluation
from models.training.label_losses import (
    LabelLosses,
    LabelSums,
    check_learnable,
    label_sums,
    shares,
)
from optimizers.groups import variable_path
from optimizers.registry import build_optimizer
from tests.examples import example

CLICK, BUY, LIKE = Label("click"), Label("buy", "click", 2.0), Label("like")
LABELS = (CLICK, BUY, LIKE)
ESMM = (CLICK, BUY)
NAMES = ("shared_bottom", "mmoe", "esmm")


def layout(labels: tuple[Label, ...] = LABELS) -> Layout:
    found = tuple(
        LabelInput(one.name, one.of is not None, 0.1 * number)
        for number, one in enumerate(labels, 2)
    )
    return Layout(PLAIN.single, PLAIN.lists, PLAIN.dense, labels=found)


def model_of(name: str, labels: tuple[Label, ...] = LABELS) -> Any:
    start_afresh(1)
    config = ModelConfig.model_validate({"name": name, "hidden": [8, 4]})
    return build_model(layout(labels), config, 0.2)


def test_outputs_are_called_by_their_label() -> None:
    def names(*labels: Label) -> list[str]:
        return [output.name for output in outputs(labels)]

    assert names(CLICK, BUY) == ["ctr", "cvr", "ctcvr"]
    assert names(*LABELS) == ["ctr", "cvr", "ctcvr", "p_like"]
    assert names(CLICK, BUY, Label("cart", "click")) == [
        "ctr",
        "cvr_buy",
        "ctcvr_buy",
        "cvr_cart",
        "ctcvr_cart",
    ]


def random_rows(count: int, seed: int = 1) -> tuple[Any, Any]:
    """Labels [N, 3] as ingest leaves them, and logits far from 0, too."""
    rng = np.random.default_rng(seed)
    click, like = rng.integers(0, 2, (2, count))
    buy = click * rng.integers(0, 2, count)
    buy[rng.random(count) < 0.3] = UNKNOWN
    like[rng.random(count) < 0.3] = UNKNOWN
    values = np.stack([click, buy, like], 1).astype(np.float32)
    logits = rng.normal(0, 3, (count, 3))
    logits[:4] = [[80, 80, 80], [-80, 80, -80], [80, -80, 80], [-80, -80, -80]]
    return values, logits.astype(np.float32)


def reference(values: Any, logits: Any, entire_space: bool) -> Any:
    """Loss of each row, with shares of 1 and weights 1, 2, 1."""

    def nats(label: float, p: np.longdouble, q: np.longdouble) -> Any:
        return -np.log(p) if label else -np.log(q)

    found = []
    for (click, buy, like), row in zip(values, logits, strict=True):
        a, b, c = np.exp(-row.astype(np.longdouble))
        p, q, r = 1 / (1 + a), 1 / (1 + b), 1 / (1 + c)
        loss = nats(click, p, a * p)
        if buy != UNKNOWN:
            if entire_space:
                none = (a + b + a * b) * p * q
                loss += 2 * nats(click * buy, p * q, none)
            elif click:
                loss += 2 * nats(buy, q, b * q)
        if like != UNKNOWN:
            loss += nats(like, r, c * r)
        found.append(float(loss) / 4)
    return np.array(found)


@pytest.mark.parametrize("jit", [None, True])
@pytest.mark.parametrize("entire_space", [False, True])
def test_loss_of_a_row_is_the_formulas(
    entire_space: bool, jit: bool | None
) -> None:
    values, logits = random_rows(200)
    losses = tf.function(
        LabelLosses(LABELS, entire_space, [1, 1, 1]), jit_compile=jit
    )
    found = losses(tf.constant(logits), tf.constant(values)).numpy()
    expected = reference(values, logits, entire_space)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_label_moves_nothing_of_its_tower(name: str) -> None:
    labels = ESMM if name == "esmm" else LABELS
    model = model_of(name, labels)
    losses = LabelLosses(labels, name == "esmm", [1.0] * len(labels))
    values = np.full((6, len(labels)), UNKNOWN, np.float32)
    values[:, 0] = [0, 1, 0, 1, 0, 1]
    with tf.GradientTape() as tape:
        logits = model(inputs(PLAIN, 6))
        loss = tf.reduce_sum(losses(logits, tf.constant(values)))
    found = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, found, strict=True
    ):
        path = variable_path(variable)
        if any(f"_{one.name}" in path for one in labels[1:]):
            assert gradient is None or not np.any(gradient), path
        elif "deep/out/" in path:
            assert np.any(gradient), path


@pytest.mark.parametrize("name", NAMES)
def test_logits_start_at_the_base_rate_of_each_label(name: str) -> None:
    labels = ESMM if name == "esmm" else LABELS
    model = model_of(name, labels)
    biases = {
        path: float(tf.squeeze(variable))
        for variable in model.trainable_variables
        if (path := variable_path(variable)).endswith("bias") and "/out" in path
    }
    paths = ["deep/out/bias", "deep/out_buy/bias", "deep/out_like/bias"]
    assert list(biases) == paths[: len(labels)]
    rates = 1 / (1 + np.exp(-np.array(list(biases.values()))))
    np.testing.assert_allclose(rates, [0.2, 0.3, 0.4][: len(labels)], rtol=1e-5)
    assert model(inputs(PLAIN, 7)).shape == (7, len(labels))


@pytest.mark.parametrize("name", NAMES)
def test_shallow_weights_are_of_each_label(name: str) -> None:
    """A weight of each slot for each label, which requests do not add."""
    labels = ESMM if name == "esmm" else LABELS
    slots = (IdFeature("slot", 4, 1),)
    shape = dataclasses.replace(layout(labels), shallow=slots)
    config = ModelConfig.model_validate({"name": name, "hidden": [8, 4]})
    model = build_model(shape, config, 0.2)
    table = model.shallow.table
    assert table.shape == (4, len(labels))
    weights = np.arange(4.0 * len(labels)).reshape(4, -1)
    table.assign(weights)
    batch = inputs(PLAIN, 7)
    ids = np.arange(7) % 4
    whole = model({**batch, "shallow_ids": tf.constant(ids[:, None])})
    np.testing.assert_allclose(whole - model(batch), weights[ids], atol=1e-5)


def test_mixture_of_experts_is_the_papers() -> None:
    """KDD 2018: experts weighted by the softmax of a label's gate."""
    model = model_of("mmoe")
    weights = {
        variable_path(v): v.numpy().astype(float)
        for v in model.trainable_variables
    }
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5, model.deep.flat_width)).astype(np.float32)

    def dense(values: Any, name: str) -> Any:
        found = values @ weights[f"deep/{name}/kernel"]
        return np.maximum(found + weights[f"deep/{name}/bias"], 0)

    experts = np.stack(
        [dense(dense(x, f"expert_{e}_0"), f"expert_{e}_1") for e in range(4)], 1
    )
    for label, found in zip(LABELS, model.deep.bottom(x), strict=True):
        gate = np.exp(x @ weights[f"deep/gate_{label.name}/kernel"])
        gate /= gate.sum(1, keepdims=True)
        mixed = (gate[:, :, None] * experts).sum(1)
        np.testing.assert_allclose(found, mixed, rtol=1e-4, atol=1e-6)


def test_shares_are_those_of_the_weights_of_the_rows_that_count() -> None:
    values = np.array(
        [[1, 1, 0], [1, 0, 1], [1, -1, -1], [0, 0, 1], [0, -1, 1], [0, 0, -1]],
        float,
    )
    weights = np.array([1.0, 2, 3, 4, 5, 6])
    found = [
        LabelSums(*one) for one in label_sums(LABELS, values, weights).tolist()
    ]
    assert found[0] == LabelSums(negative=15, positive=6, without=15)
    assert found[1] == LabelSums(negative=2, positive=1, without=10)
    assert found[2] == LabelSums(negative=1, positive=11, without=9)
    assert found[1].base_rate == pytest.approx(1 / 3)
    # A row without a click counts twice, as where negatives are sampled.
    assert shares(LABELS, found, False, 2) == [1, 3 / 36, (3 + 18) / 36]
    assert shares(ESMM, found[:2], True, 2) == [1, (3 + 20) / 36]


def test_label_that_says_nothing_is_refused() -> None:
    for sums, entire, words in (
        (
            LabelSums(0, 5, 9),
            False,
            "all are 1 in the training rows with click",
        ),
        (LabelSums(5, 0, 9), False, "all are 0"),
        (LabelSums(), False, "it is missing"),
        (LabelSums(5, 5), True, "0 in rows without click"),
    ):
        with pytest.raises(InputError, match=words) as error:
            check_learnable(BUY, sums, entire)
        assert str(error.value).startswith("data.labels.buy: ")
    check_learnable(BUY, LabelSums(5, 5), entire_space=False)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.ci] if name != "esmm" else [])
        for name in NAMES
    ],
)
def test_training_learns_both_labels(name: str) -> None:
    """Clicks follow x; a purchase after a click follows the id."""
    rng = np.random.default_rng(5)
    count = 3000
    batch = inputs(PLAIN, count, 5)
    x, ids = batch["dense"].numpy()[:, 0], batch["ids"].numpy()[:, 0]
    click = rng.random(count) < 1 / (1 + np.exp(-2 * x))
    p = np.where(ids % 2, 0.8, 0.1)
    buy = (click & (rng.random(count) < p)).astype(np.float32)
    buy[rng.random(count) < 0.2] = UNKNOWN
    values = np.stack([click, buy], 1).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((batch, values))
    model = model_of(name, ESMM)
    entire = name == "esmm"
    sums = label_sums(ESMM, values.astype(float), np.ones(count)).tolist()
    share = shares(ESMM, [LabelSums(*one) for one in sums], entire, 1)
    steps = 5 * count // 100
    result = loop.train(
        model,
        build_optimizer({"name": "adam", "learning_rate": 0.02}, steps, 3),
        data.batch(100),
        data.batch(500),
        count,
        TrainConfig(batch_size=100, epochs=5, jit=entire),
        loss=Loss("logloss", LabelLosses(ESMM, entire, share), True, False),
        labels=ESMM,
    )
    evaluation = Evaluation(model, 0.0, ESMM)
    assert evaluation.scores(data.batch(500)).logloss == pytest.approx(
        result.eval_logloss
    )
    assert result.eval_logloss < 0.9 * evaluation.constant
    _, logits, *_ = evaluation.predict_weighted(data.batch(500))
    cvr = 1 / (1 + np.exp(-logits[:, 1]))
    for even in (0, 1):
        rows = ids % 2 == even
        assert cvr[rows].mean() == pytest.approx(p[rows][0], abs=0.2)


def test_sampling_shifts_the_first_logit_alone() -> None:
    model = model_of("esmm", ESMM)
    values, _ = random_rows(50)
    batch = inputs(PLAIN, 50)
    data = tf.data.Dataset.from_tensor_slices((batch, values[:, :2])).batch(20)
    shift = Negatives(keep=0.5).shift
    plain = Evaluation(model, 0.0, ESMM).predict_weighted(data).logits
    moved = Evaluation(model, shift, ESMM).predict_weighted(data).logits
    np.testing.assert_allclose(moved - plain, [[shift, 0]] * 50, atol=1e-6)


def test_a_label_of_one_class_leaves_no_constant_to_beat() -> None:
    model = model_of("esmm", ESMM)
    values, _ = random_rows(50)
    for second, finite in ((values[:, 1], True), (np.zeros(50), False)):
        labels = np.stack([values[:, 0], second], 1).astype(np.float32)
        data = tf.data.Dataset.from_tensor_slices((inputs(PLAIN, 50), labels))
        evaluation = Evaluation(model, 0.0, ESMM)
        assert evaluation.scores(data.batch(20)).logloss > 0
        assert np.isfinite(evaluation.constant) == finite


def test_labels_of_packed_and_plain_files_are_read(tmp_path: Path) -> None:
    rows = [(1, 1, 2.0), (0, -1, 1.0), (1, 0, 0.5)]
    for number, (click, buy, weight) in enumerate(rows):
        packed = number == 1
        name = str(tmp_path / f"part-{number}{'.gz' * packed}")
        with tf.io.TFRecordWriter(name, "GZIP" if packed else "") as writer:
            record = example(
                label=click, example_label_buy=buy, example_weight=weight
            )
            writer.write(record)
    found = list(label_rows([f"{tmp_path}/*"], [BUY.column], weighted=True))
    values = np.concatenate([one.values for one in found])
    weights = np.concatenate([one.weights for one in found])
    read = {(*v, w) for v, w in zip(values.tolist(), weights, strict=True)}
    assert read == set(rows)
