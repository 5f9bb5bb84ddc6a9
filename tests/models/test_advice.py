"""Warnings of a training, each made by a training that deserves it."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.config.training import TrainConfig
from models.training import loop
from models.training.advice import Course, warnings

ROWS = 512


def data(seed: int, learnable: bool = True) -> Any:
    """Numbers [N, 4], and a label that depends on it or on nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    score = x.sum(1) if learnable else rng.normal(size=ROWS)
    label = (score > 0).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((x, label)).batch(16)


def told(
    rate: float, learnable: bool = True, eval_data: Any = None, **config: Any
) -> list[str]:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    flat = keras.layers.Reshape(())
    model = keras.Sequential([keras.Input((4,)), *layers, flat])
    result = loop.train(
        model,
        keras.optimizers.Adam(rate),
        data(1, learnable),
        eval_data or data(2, learnable),
        ROWS,
        TrainConfig(**{"batch_size": 16, **config}),
    )
    return warnings(result.steps, result.course, result.stopped_early)


def test_a_good_training_has_no_warning() -> None:
    assert told(0.01, epochs=8, eval_steps=10_000) == []


def test_few_steps_are_warned_of() -> None:
    (line,) = told(0.01, epochs=2, eval_steps=10_000)
    assert line.startswith("the training has 64 steps, fewer than 200")


def test_eval_rows_of_one_label_have_no_auc(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lionctr.train")
    clicks = data(2).map(lambda x, label: (x, tf.ones_like(label)))
    # Not that it has learned nothing: no model beats a loss of 0.
    (line,) = told(0.01, eval_data=clicks, epochs=1, batch_size=ROWS)
    assert line.startswith("the training has 1 step, fewer")
    (evaluated,) = [m for m in caplog.messages if "eval logloss" in m]
    assert evaluated.endswith("AUC undefined: all eval rows have one label")


def test_an_eval_loss_like_the_constants_is_warned_of() -> None:
    lines = told(0.01, False, epochs=8, eval_steps=10_000)
    (line,) = lines
    assert "no better than 0.69" in line and "of the constant" in line


def test_a_best_last_step_is_warned_of() -> None:
    (line,) = told(0.0005, epochs=8)
    assert "best at the last step, 256: give more train.epochs" in line


def test_a_best_first_step_is_warned_of() -> None:
    lines = told(0.01, False, epochs=8)
    assert any("first of 8 evaluations, step 32: " in line for line in lines)
    assert any("optimizer.learning_rate" in line for line in lines)


def test_one_evaluation_is_neither_first_nor_last() -> None:
    course = Course()
    course.add(300, 0.5, 0.6)
    assert warnings(300, course, False) == []


def test_a_linear_start_that_stays_the_best_is_told() -> None:
    course = Course()
    for step, loss in ((0, 0.4), (100, 0.41), (200, 0.42)):
        course.add(step, loss, 0.6)
    (line,) = warnings(300, course, True)
    assert "none of 2 evaluations is better than the linear start" in line
    course.add(300, 0.39, 0.6)
    assert warnings(300, course, True) == []
    course = Course()
    for step, loss in ((0, 0.4), (100, 0.39), (200, 0.42)):
        course.add(step, loss, 0.6)
    assert warnings(300, course, True) == []  # the start was the first


@pytest.mark.parametrize(
    ("losses", "stopped", "word"),
    [
        ([0.5, 0.4, 0.3], False, "last"),
        ([0.5, 0.4, 0.3], True, ""),  # a callback wanted it so
        ([0.5, 0.3, 0.2999], False, ""),  # hardly a gain any more
        ([0.8, 0.7, 0.59], False, "last"),  # worse than the constant to here
        ([0.3, 0.4, 0.5], True, "first"),
        ([0.5, 0.3, 0.4], False, ""),
        ([0.5, 0.3, 0.3], False, ""),  # the earliest of equal ones
    ],
)
def test_the_place_of_the_best_decides(
    losses: list[float], stopped: bool, word: str
) -> None:
    course = Course()
    for number, loss in enumerate(losses, 1):
        course.add(100 * number, loss, 0.6)
    lines = warnings(300, course, stopped)
    assert len(lines) == bool(word)
    assert all(word in line for line in lines)
