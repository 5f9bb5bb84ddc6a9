"""Arguments of every Keras optimizer, in our loop beside Keras's own `fit`."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.training import EarlyStopping, ModelConfig, TrainConfig
from models.keras_versions import keras_version
from models.preprocessing.input_layout import IdFeature, Layout
from models.training import loop
from models.training.evaluation import Evaluation
from models.training.metrics import logloss_of_logits
from optimizers import Lion
from optimizers.registry import build_optimizer

LAYOUT = Layout(
    single=(IdFeature("a", 30, 4), IdFeature("b", 6, 2)),
    lists=(),
    dense=("x",),
)
BATCH, ROWS, EPOCHS = 32, 320, 2
ARGUMENTS: dict[str, dict[str, Any]] = {
    "learning_rate": {"learning_rate": 0.02},
    "weight_decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.01},
    "clipvalue": {"clipvalue": 0.001},
    "global_clipnorm": {"global_clipnorm": 0.01},
    "use_ema": {"use_ema": True, "ema_momentum": 0.7},
    "ema_overwrite_frequency": {
        "use_ema": True,
        "ema_momentum": 0.7,
        "ema_overwrite_frequency": 3,
    },
    "loss_scale_factor": {"loss_scale_factor": 1024.0},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
}
RATES = {"lion": 0.003, "adam": 0.003, "adagrad": 0.02}
CLASSES = {
    "lion": Lion,
    "adam": keras.optimizers.Adam,
    "adagrad": keras.optimizers.Adagrad,
}


def data(seed: int = 1) -> tf.data.Dataset:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, [30, 6], (ROWS, 2))
    dense = rng.normal(size=(ROWS, 1)).astype(np.float32)
    label = (ids[:, 0] % 3 + dense[:, 0] > 1).astype(np.float32)
    batch = {"ids": ids.astype(np.int64), "dense": dense}
    return tf.data.Dataset.from_tensor_slices((batch, label)).batch(BATCH)


def trained(
    spec: dict[str, Any], model: str = "wide_deep", **config: Any
) -> tuple[Any, Any, loop.Result]:
    """A model that our loop has trained, its optimizer, and what came out."""
    keras.utils.set_random_seed(1)
    built = build_model(LAYOUT, ModelConfig(name=model, hidden=(8,)), 0.5)
    settings = {"batch_size": BATCH, "epochs": EPOCHS, **config}
    steps = settings["epochs"] * ROWS // BATCH
    optimizer = build_optimizer(spec, steps, keras_version(built))
    result = loop.train(
        built, optimizer, data(), data(2), ROWS, TrainConfig(**settings)
    )
    return built, optimizer, result


def logloss(model: Any) -> float:
    labels, logits = Evaluation(model).predict(data(2))
    return logloss_of_logits(labels, logits)


# Each argument with Lion, and where another optimizer may differ from it.
QUICK = {
    *(("lion", argument) for argument in ARGUMENTS),
    ("adam", "weight_decay"),
    ("adam", "use_ema"),
    ("adagrad", "global_clipnorm"),
    ("adagrad", "gradient_accumulation_steps"),
}


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.ci])
        for pair in itertools.product(RATES, ARGUMENTS)
    ],
)
def test_an_argument_does_what_it_does_in_fit(name: str, argument: str) -> None:
    arguments = {"learning_rate": RATES[name], **ARGUMENTS[argument]}
    ours, _, result = trained({"name": name, **arguments})
    keras.utils.set_random_seed(1)
    plain = build_model(LAYOUT, ModelConfig(hidden=(8,)), 0.5)
    # Keras itself cannot divide the gradient of a table by the factor.
    arguments.pop("loss_scale_factor", None)
    plain.compile(
        CLASSES[name](**arguments),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    plain.fit(data(), epochs=EPOCHS, verbose=0)
    # A sign may differ where what it is of is all but 0.
    same = [
        np.isclose(a, b, 1e-3, 1e-5).ravel()
        for a, b in zip(ours.get_weights(), plain.get_weights(), strict=True)
    ]
    assert np.concatenate(same).mean() > 0.97
    assert logloss(ours) == pytest.approx(logloss(plain), rel=2e-3)
    assert logloss(ours) == pytest.approx(result.eval_logloss, rel=1e-5)
    assert result.steps == EPOCHS * ROWS // BATCH


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("lion", False),
        ("adam", True),
        ("adagrad", False),
        pytest.param("lion", True, marks=pytest.mark.ci),
        pytest.param("adam", False, marks=pytest.mark.ci),
        pytest.param("adagrad", True, marks=pytest.mark.ci),
    ],
)
def test_a_loss_scaled_by_a_power_of_two_gives_the_same_bits(
    name: str, groups: bool
) -> None:
    weights = []
    for factor in (None, 2.0**12):
        spec: dict[str, Any] = {"name": name, "learning_rate": RATES[name]}
        if groups:
            wide = {"match": "wide/.*", "name": "ftrl"}
            spec = {"groups": [wide, {"match": ".*", **spec}]}
        spec["loss_scale_factor"] = factor
        weights.append(trained(spec)[0].get_weights())
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, scaled)


@pytest.mark.pairs
@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("name", ["lion", "adam"])
@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dcn"])
def test_the_averages_are_what_is_evaluated_and_kept(
    model: str, name: str, groups: bool
) -> None:
    spec: dict[str, Any] = {
        "name": name,
        "learning_rate": 0.02,
        "use_ema": True,
        "ema_momentum": 0.9,
    }
    raw = trained({**spec, "use_ema": False}, model)[0].get_weights()
    if groups:
        spec = {"groups": [{"match": ".*", **spec}]}
    built, optimizer, result = trained(spec, model)
    averaged = built.get_weights()
    apart = [np.abs(a - b).max() for a, b in zip(raw, averaged, strict=True)]
    assert max(apart) > 1e-3
    assert logloss(built) == pytest.approx(result.eval_logloss, rel=1e-5)
    one = next(iter(getattr(optimizer, "groups", {"": optimizer}).values()))
    for kept, average in zip(
        built.trainable_variables,
        one._model_variables_moving_average,
        strict=True,
    ):
        np.testing.assert_array_equal(kept.numpy(), average.numpy())


@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dcn"])
def test_early_stopping_keeps_the_best_averages(model: str) -> None:
    spec = {
        "name": "adam",
        "learning_rate": 0.1,
        "use_ema": True,
        "ema_momentum": 0.8,
    }
    rule = EarlyStopping(patience=2)
    built, _, result = trained(spec, model, epochs=30, early_stopping=rule)
    assert result.stopped_early
    assert logloss(built) == pytest.approx(result.eval_logloss, rel=1e-5)


def test_a_warm_start_averages_from_its_first_weights() -> None:
    keras.utils.set_random_seed(1)
    built = build_model(LAYOUT, ModelConfig(hidden=(8,)), 0.5)
    before = built.get_weights()
    spec = {
        "name": "lion",
        "learning_rate": 1e-9,
        "use_ema": True,
        "ema_momentum": 0.999,
    }
    optimizer = build_optimizer(spec, 10, first_step=500)
    optimizer.build(built.trainable_variables)
    optimizer.iterations.assign(500)
    config = TrainConfig(batch_size=BATCH)
    loop.train(built, optimizer, data(), data(2), ROWS, config)
    for old, new in zip(before, built.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)
