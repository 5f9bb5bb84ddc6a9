"""Demands on every loss, ours and a user's own.

A loss is called with (logits, labels, weights, groups) of the rows of a batch
and returns the loss of each, float32 [N]; training takes their mean by weight.

- logits: float32 [N], or [N, 2] of the labels 0 and 1 where it asks for two.
- labels: float32 [N], 0 or 1.
- weights: float32 [N], above 0, for what it compares a row with.
- groups: int64 [N], the same of rows of one group, below 0 of rows without
  one; None where the config names no column.

Its attribute `calibrated` is True where true probabilities minimize it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from models.config.losses import LossConfig
from models.losses.registry import Loss, load_loss

_ROWS = 24


def check(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Puts a loss through the demands of a training.

    Args:
        name: as in the config, such as "my_losses:Hinge".
        options: other keys of the section `train.loss`.

    Raises:
        AssertionError: it says which demand is not met.
        InputError: the loss cannot be had or made.
    """
    config = LossConfig.model_validate({"name": name, **(options or {})})
    loss = load_loss(config)
    batch = _rows(loss)
    _check_values(loss, batch)
    _check_gradient(loss, batch)
    _check_order(loss, batch)
    _check_weights(loss, batch)
    _check_graph(loss, batch)
    _check_direction(loss)
    if loss.calibrated:
        _check_calibrated(loss)


def _rows(loss: Loss) -> list[Any]:
    """Logits, labels, weights and groups of a batch."""
    rng = np.random.default_rng(5)
    shape = (_ROWS, 2) if loss.logits == 2 else (_ROWS,)
    groups = rng.integers(-1, 6, _ROWS) if loss.grouped else None
    return [
        tf.constant(rng.normal(size=shape), tf.float32),
        tf.constant(rng.random(_ROWS) < 0.4, tf.float32),
        tf.constant(rng.uniform(0.5, 2.0, _ROWS), tf.float32),
        None if groups is None else tf.constant(groups, tf.int64),
    ]


def _check_values(loss: Loss, batch: list[Any]) -> None:
    """The loss is a number for each row, also far from 0."""
    for scale in (1.0, 30.0):
        logits, *rest = batch
        found = loss.of_rows(scale * logits, *rest)
        shape = tuple(getattr(found, "shape", ()))
        assert shape == (_ROWS,), f"losses {shape}, not ({_ROWS},)"
        assert np.isfinite(found.numpy()).all(), "a loss is not finite"


def _gradient(loss: Loss, batch: list[Any]) -> tuple[Any, Any]:
    logits, labels, weights, groups = batch
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = loss.of_rows(logits, labels, weights, groups)
        total = tf.reduce_sum(weights * found)
    return total, tape.gradient(total, logits)


def _check_gradient(loss: Loss, batch: list[Any]) -> None:
    """The gradient is that of the loss, by finite differences."""
    _, gradient = _gradient(loss, batch)
    assert gradient is not None, "it has no gradient"
    assert np.isfinite(gradient.numpy()).all(), "its gradient is not finite"
    rng = np.random.default_rng(6)
    logits, *rest = batch
    for _ in range(4):
        way = rng.normal(size=logits.shape).astype(np.float32)
        step = 3e-2
        ends = [
            float(_gradient(loss, [logits + at * way, *rest])[0])
            for at in (step, -step)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        wanted = float(tf.reduce_sum(gradient * way))
        assert np.isclose(slope, wanted, rtol=2e-2, atol=2e-2), (
            f"its gradient is {wanted:.4f} where differences give {slope:.4f}"
        )


def _check_order(loss: Loss, batch: list[Any]) -> None:
    """A row has its loss at any place of its batch."""
    order = np.random.default_rng(7).permutation(_ROWS)
    moved = [None if x is None else tf.gather(x, order) for x in batch]
    plain = loss.of_rows(*batch).numpy()
    assert np.allclose(loss.of_rows(*moved), plain[order], atol=1e-5), (
        "a row's loss depends on the order of its batch"
    )


def _check_weights(loss: Loss, batch: list[Any]) -> None:
    """Twice the weights are the same losses: training weighs the rows."""
    logits, labels, weights, groups = batch
    twice = loss.of_rows(logits, labels, 2.0 * weights, groups)
    plain = loss.of_rows(logits, labels, weights, groups)
    assert np.allclose(twice, plain, atol=1e-5), (
        "twice the weights change the losses; training multiplies by them"
    )


def _check_graph(loss: Loss, batch: list[Any]) -> None:
    """A compiled step gives the same, also by XLA."""
    plain = [x.numpy() for x in _gradient(loss, batch)]
    for jit in (False, True):
        step = tf.function(
            lambda *rows: _gradient(loss, list(rows)), jit_compile=jit
        )
        found = step(*batch)
        for one, other in zip(found, plain, strict=True):
            assert np.allclose(one, other, atol=1e-4, rtol=1e-4), (
                f"compiled with jit={jit} it gives other numbers"
            )


def _check_direction(loss: Loss) -> None:
    """Its gradient raises a positive above a negative of the same group."""
    logits = tf.zeros([2, 2] if loss.logits == 2 else [2])
    groups = tf.zeros([2], tf.int64) if loss.grouped else None
    _, gradient = _gradient(
        loss, [logits, tf.constant([1.0, 0.0]), tf.ones([2]), groups]
    )
    down = gradient.numpy()
    if loss.logits == 2:
        down = down[:, 1] - down[:, 0]
    assert down[0] < down[1], "a positive is not raised above a negative"


def _check_calibrated(loss: Loss) -> None:
    """With `calibrated` True probabilities are its minimum, in the mean."""
    p = np.array([0.1, 0.3, 0.5, 0.8])
    logits = np.log(p / (1 - p))
    if loss.logits == 2:
        logits = np.log(np.stack([1 - p, p], 1))
    groups = tf.zeros([4], tf.int64) if loss.grouped else None
    mean = np.zeros_like(logits)
    for labels in product((0.0, 1.0), repeat=4):
        given = tf.constant(logits, tf.float32)
        rows = [given, tf.constant(labels), tf.ones([4]), groups]
        chance = np.prod(np.where(np.array(labels) > 0, p, 1 - p))
        mean += chance * _gradient(loss, rows)[1].numpy()
    assert np.abs(mean).max() < 1e-3, (
        "`calibrated` is True, but true probabilities do not minimize it:"
        f" there the mean gradient is {np.abs(mean).max():.3f}"
    )
