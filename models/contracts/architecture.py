"""Demands on every architecture, ours and a user's own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.architectures.registry import build_model
from models.config.architectures import ModelConfig
from models.config.training import TrainConfig
from models.contracts.rows import ALL, BARE, PLAIN, inputs, learnable
from models.keras_versions import keras_version, start_afresh
from models.preprocessing.input_layout import Layout
from models.training import loop
from optimizers.registry import build_optimizer

_LAYOUTS = {"all kinds": ALL, "no lists": PLAIN, "ids alone": BARE}
_RATE = 0.3  # of clicks
_ROWS = 600
_EPOCHS = 6


def check(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Puts an architecture through the demands of a training.

    Args:
        name: as in the config, such as "my_models:build".
        options: other keys of the section `model`.

    Raises:
        AssertionError: it says which demand is not met.
        InputError: the architecture cannot be had or built.
    """
    config = ModelConfig.model_validate({"name": name, **(options or {})})
    for kind, layout in _LAYOUTS.items():
        start_afresh(1)
        model = build_model(layout, config, _RATE)
        _check_rows(model, layout, f"inputs of {kind}")
        _check_gradients(model, layout, f"inputs of {kind}")
    _check_seed(config)
    model = _check_learning(config)
    _check_export(model)


def _check_rows(model: Any, layout: Layout, where: str) -> None:
    """A row has one logit, whatever other rows its batch has."""
    batch = inputs(layout, 12)
    logits = _numbers(model(batch, training=False))
    assert logits.shape == (12,), f"{where}: logits {logits.shape}, not (12,)"
    assert np.isfinite(logits).all(), f"{where}: a logit is not finite"
    for first in (0, 7):
        part = {key: value[first : first + 5] for key, value in batch.items()}
        alone = _numbers(model(part, training=False))
        assert np.allclose(alone, logits[first : first + 5], atol=1e-5), (
            f"{where}: a row's logit depends on the other rows of its batch"
        )


def _check_gradients(model: Any, layout: Layout, where: str) -> None:
    assert model.trainable_variables, f"{where}: no trainable variable"
    with tf.GradientTape() as tape:
        logits = model(inputs(layout, 64), training=True)
        loss = tf.reduce_sum(tf.square(tf.cast(logits, tf.float32) - 1))
        loss += sum(model.losses)
    found = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(
        model.trainable_variables, found, strict=True
    ):
        assert gradient is not None, f"{where}: {variable.name} never changes"


def _check_seed(config: ModelConfig) -> None:
    """`train.seed` decides where the weights start."""
    starts = []
    for _ in range(2):
        start_afresh(3)
        weights = build_model(PLAIN, config, _RATE).get_weights()
        starts.append(weights)
    for one, other in zip(*starts, strict=True):
        assert np.array_equal(one, other), "weights do not follow the seed"


def _check_learning(config: ModelConfig) -> Any:
    start_afresh(1)
    model = build_model(ALL, config, _RATE)
    spec = {"name": "adam", "learning_rate": 0.02}
    steps = _EPOCHS * _ROWS // 50
    train = learnable(ALL, _ROWS, 1)
    result = loop.train(
        model,
        build_optimizer(spec, steps, keras_version(model)),
        train.batch(50),
        train.batch(200),
        _ROWS,
        TrainConfig(batch_size=50, epochs=_EPOCHS),
    )
    labels = np.concatenate([y.numpy() for _, y in train.batch(_ROWS)])
    constant = -np.log(np.where(labels > 0, labels.mean(), 1 - labels.mean()))
    assert result.eval_logloss < 0.95 * constant.mean(), (
        f"it does not learn: logloss {result.eval_logloss:.3f}, that of"
        f" the base rate {constant.mean():.3f}"
    )
    return model


def _check_export(model: Any) -> None:
    """A SavedModel says the same, without Python."""
    batch = inputs(ALL, 12)
    expected = _numbers(model(batch, training=False))
    module = tf.Module()
    module.model = model
    module.logits = tf.function(lambda rows: model(rows, training=False))
    module.logits(batch)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder)
        loaded = tf.saved_model.load(folder)
        try:
            found = _numbers(loaded.logits(batch))
        except tf.errors.OpError as error:
            raise AssertionError(
                f"the exported model cannot run without Python: {error}"
            ) from error
    assert np.allclose(found, expected, atol=1e-5), (
        "the exported model gives other logits"
    )


def _numbers(logits: Any) -> Any:
    return tf.cast(logits, tf.float32).numpy()
