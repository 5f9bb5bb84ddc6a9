"""Keras's usual callbacks in our loop: they work, or are refused in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tf_keras

from models.architectures.registry import build_model
from models.config.training import ModelConfig, TrainConfig
from models.errors import InputError
from models.keras_versions import keras_version
from models.training import loop
from optimizers.registry import build_optimizer
from tests.models.test_keras_arguments import BATCH, LAYOUT, ROWS, data

SPEC: dict[str, Any] = {"name": "lion", "learning_rate": 0.02}
GROUPS = {"groups": [{"match": ".*", **SPEC}]}
COSINE = {**SPEC, "schedule": {"name": "cosine"}}


def train(
    callbacks: Any, spec: Any = SPEC, model: str = "wide_deep"
) -> tuple[Any, Any, loop.Result]:
    """A model, its optimizer and what came out of twelve epochs at most."""
    keras.utils.set_random_seed(1)
    built = build_model(LAYOUT, ModelConfig(name=model, hidden=(8,)), 0.5)
    optimizer = build_optimizer(spec, 120, keras_version(built))
    config = TrainConfig(batch_size=BATCH, epochs=12)
    result = loop.train(
        *(built, optimizer, data(), data(2), ROWS, config), callbacks=callbacks
    )
    return built, optimizer, result


def library(model: str) -> Any:
    return tf_keras if model.startswith("tfrs") else keras


@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dcn"])
def test_early_stopping_on_any_log(model: str) -> None:
    # No epoch can gain as much as it must: each stops after the third.
    stops = [
        library(model).callbacks.EarlyStopping(
            monitor=monitor, patience=2, min_delta=0.9
        )
        for monitor in ("auc", "val_auc", "logloss", "val_loss", "loss")
    ]
    result = train(stops, model=model)[2]
    assert result.steps == 3 * ROWS // BATCH
    assert [stop.stopped_epoch for stop in stops] == [2] * 5


@pytest.mark.parametrize("model", ["wide_deep", "tfrs_dcn"])
@pytest.mark.parametrize("spec", [SPEC, GROUPS], ids=["one", "groups"])
def test_a_plateau_lowers_the_rate(model: str, spec: Any) -> None:
    if model == "tfrs_dcn" and spec is GROUPS:
        pytest.skip("a Keras 2 callback knows one optimizer only")
    plateau = library(model).callbacks.ReduceLROnPlateau(
        monitor="val_auc", mode="max", factor=0.5, patience=1, min_delta=0.9
    )
    _, optimizer, _ = train([plateau], spec, model)
    one = next(iter(getattr(optimizer, "groups", {"": optimizer}).values()))
    assert float(one.learning_rate) < 0.02 / 8


@pytest.mark.parametrize("monitor", ["val_auc", "val_loss"])
def test_a_checkpoint_of_the_best_weights_is_loadable(
    tmp_path: Path, monitor: str
) -> None:
    path = tmp_path / "best.weights.h5"
    best = keras.callbacks.ModelCheckpoint(
        path, monitor=monitor, save_best_only=True, save_weights_only=True
    )
    built, _, _ = train([best])
    fresh = build_model(LAYOUT, ModelConfig(hidden=(8,)), 0.5)
    fresh.load_weights(path)
    assert len(fresh.get_weights()) == len(built.get_weights())


@pytest.mark.parametrize(
    ("callback", "spec", "message"),
    [
        (keras.callbacks.ReduceLROnPlateau(), COSINE, "optimizer.schedule"),
        (
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
            {**GROUPS, "schedule": {"name": "cosine"}},
            "optimizer.schedule",
        ),
        (
            keras.callbacks.SwapEMAWeights(),
            {**SPEC, "use_ema": True},
            "as it is",
        ),
        (
            keras.callbacks.EarlyStopping(monitor="val_accuracy"),
            SPEC,
            r"`monitor` must be one of loss, logloss, auc, val_loss.*accuracy",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    callback: Any, spec: Any, message: str
) -> None:
    steps = []

    class Step(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            steps.append(batch)

    with pytest.raises(InputError, match=message):
        train([Step(), callback], spec)
    assert not steps
