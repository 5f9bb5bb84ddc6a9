"""Arguments of every Keras optimizer, in our loop beside Keras's own `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

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
BATCH, ROWS, EPOCHS = 32, 192, 2
# Every argument of a Keras optimizer, as many in one training as Keras takes.
TOGETHER: dict[str, dict[str, Any]] = {
    "norms and averages": {
        "learning_rate": 0.01,
        "weight_decay": 2.0,
        "clipnorm": 0.01,
        "use_ema": True,
        "ema_momentum": 0.7,
    },
    "values and overwritten averages": {
        "clipvalue": 0.001,
        "use_ema": True,
        "ema_momentum": 0.7,
        "ema_overwrite_frequency": 3,
    },
    "all norms, scaled and accumulated": {
        "global_clipnorm": 0.01,
        "loss_scale_factor": 1024.0,
        "gradient_accumulation_steps": 2,
    },
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
    spec: dict[str, Any],
    model: str = "wide_deep",
    callbacks: Sequence[Any] = (),
    **config: Any,
) -> tuple[Any, Any, loop.Result]:
    """A model that our loop has trained, its optimizer, and what came out."""
    keras.utils.set_random_seed(1)
    built = build_model(LAYOUT, ModelConfig(name=model, hidden=(8,)), 0.5)
    settings = {"batch_size": BATCH, "epochs": EPOCHS, **config}
    steps = settings["epochs"] * ROWS // BATCH
    optimizer = build_optimizer(spec, steps, keras_version(built))
    result = loop.train(
        *(built, optimizer, data(), data(2), ROWS, TrainConfig(**settings)),
        callbacks=callbacks,
    )
    return built, optimizer, result


def fitted(name: str, arguments: dict[str, Any], epochs: int = EPOCHS) -> Any:
    """The same model after Keras's own `fit`, without tf.function."""
    keras.utils.set_random_seed(1)
    plain = build_model(LAYOUT, ModelConfig(hidden=(8,)), 0.5)
    # Keras itself cannot divide the gradient of a table by the factor.
    given = {**arguments, "loss_scale_factor": None}
    plain.compile(
        CLASSES[name](**{"learning_rate": RATES[name], **given}),
        keras.losses.BinaryCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    plain.fit(data(), epochs=epochs, verbose=0)
    return plain


def alike(one: Any, other: Any) -> float:
    """Share of the weights that two models have in common."""
    same = [
        np.isclose(a, b, 1e-3, 1e-5).ravel()
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True)
    ]
    return float(np.concatenate(same).mean())


def logloss(model: Any) -> float:
    labels, logits = Evaluation(model).predict(data(2))
    return logloss_of_logits(labels, logits)


@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize(
    "name",
    [
        "lion",
        *(
            pytest.param(n, marks=pytest.mark.ci)
            for n in CLASSES
            if n != "lion"
        ),
    ],
)
def test_arguments_do_what_they_do_in_fit(name: str, together: str) -> None:
    arguments = TOGETHER[together]
    spec = {"name": name, "learning_rate": RATES[name], **arguments}
    ours, _, result = trained(spec)
    plain = fitted(name, arguments)
    # A sign may differ where what it is of is all but 0.
    assert alike(ours, plain) > 0.97
    assert logloss(ours) == pytest.approx(logloss(plain), rel=2e-3)
    assert logloss(ours) == pytest.approx(result.eval_logloss, rel=1e-5)
    assert result.steps == EPOCHS * ROWS // BATCH


@pytest.mark.parametrize("together", TOGETHER)
def test_each_argument_would_be_missed(together: str) -> None:
    arguments = TOGETHER[together]
    whole = fitted("adagrad", arguments, 1)
    for one in arguments:
        if one == "loss_scale_factor":  # changes nothing: the next test
            continue
        rest = {name: x for name, x in arguments.items() if name != one}
        assert alike(fitted("adagrad", rest, 1), whole) < 0.9, one


WIDE = {"match": "wide/.*", "name": "ftrl"}
TABLE = {"match": ".*table", "name": "lion", "learning_rate": 0.003}
HIDDEN = {"match": ".*bias", "name": "adagrad", "learning_rate": 0.02}
REST = {"match": ".*", "name": "adam", "learning_rate": 0.003}


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "lion", "learning_rate": 0.003},
        {"name": "adagrad", "learning_rate": 0.02},
        {"groups": [WIDE, TABLE, HIDDEN, REST]},
    ],
    ids=["lion", "adagrad", "groups"],
)
def test_a_loss_scaled_by_a_power_of_two_gives_the_same_bits(
    spec: dict[str, Any],
) -> None:
    weights = [
        trained({**spec, "loss_scale_factor": factor})[0].get_weights()
        for factor in (None, 2.0**12)
    ]
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
    if groups:
        spec = {"groups": [{"match": ".*", **spec}]}
    raw: list[Any] = []
    library = tf_keras if model.startswith("tfrs") else keras

    class Last(library.callbacks.Callback):  # type: ignore[name-defined]
        def on_train_end(self, logs: Any = None) -> None:
            raw.extend(self.model.get_weights())

    built, optimizer, result = trained(spec, model, [Last()])
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
