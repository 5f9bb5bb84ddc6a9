"""Demands on every optimizer, ours and a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from optimizers.registry import build_optimizer

_STEPS = 40
_IDS = [4, 1, 5]


def check(name: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Puts an optimizer through the demands of a training.

    Args:
        name: as in the config, such as "my_rules:SignSGD".
        arguments: of the class; by default a `learning_rate` of 0.01.

    Raises:
        AssertionError: it says which demand is not met.
        ValueError: the optimizer cannot be had or made.
    """
    spec = {"learning_rate": 0.01, **(arguments or {}), "name": name}
    _check_descent(spec)
    _check_tables(spec)
    _check_compiled(spec)
    _check_state(spec)


def _weights() -> keras.Variable:
    start = np.linspace(0.5, 1.0, 12, dtype=np.float32).reshape(6, 2)
    return keras.Variable(start, name="w")


def _built(spec: Mapping[str, Any]) -> tuple[Any, keras.Variable]:
    optimizer, weight = build_optimizer(spec, _STEPS), _weights()
    optimizer.build([weight])
    return optimizer, weight


def _check_descent(spec: Mapping[str, Any]) -> None:
    """Steps go down: the weights of a square's sum shrink."""
    optimizer, weight = _built(spec)
    before = np.square(weight.numpy()).sum()
    for _ in range(_STEPS):
        optimizer.apply([2 * weight.value], [weight])
    after = np.square(weight.numpy()).sum()
    assert np.isfinite(weight.numpy()).all(), "a weight is not finite"
    assert after < before, f"the loss rises from {before:g} to {after:g}"
    assert int(optimizer.iterations) == _STEPS, "it does not count its steps"


def _check_tables(spec: Mapping[str, Any]) -> None:
    """Rows of a batch move as by the dense gradient.

    Equal ids are no demand: Keras's own rules square their gradients one by
    one.
    """
    values = tf.constant([[0.5, -1.0], [-0.25, 2.0], [0.5, 0.5]])
    rows = tf.IndexedSlices(values, tf.constant(_IDS), tf.constant([6, 2]))
    dense, table = _built(spec)
    dense.apply([tf.convert_to_tensor(rows)], [table])
    sparse, other = _built(spec)
    sparse.apply([rows], [other])
    touched = sorted(set(_IDS))
    assert np.allclose(
        table.numpy()[touched], other.numpy()[touched], atol=1e-6
    ), "tf.IndexedSlices move rows by other steps than the dense gradient"


def _check_compiled(spec: Mapping[str, Any]) -> None:
    """One trace serves all steps, and gives the numbers of eager steps."""
    eager, expected = _built(spec)
    compiled, weight = _built(spec)
    traces = []

    @tf.function
    def step(gradient: tf.Tensor) -> None:
        traces.append(1)
        compiled.apply([gradient], [weight])

    for number in range(4):
        gradient = tf.fill([6, 2], 0.5 - number / 4)
        step(gradient)
        eager.apply([gradient], [expected])
    assert len(traces) == 1, "it is traced anew in later steps"
    assert np.allclose(weight.numpy(), expected.numpy(), atol=1e-6), (
        "compiled steps differ from eager ones"
    )


def _check_state(spec: Mapping[str, Any]) -> None:
    """A checkpoint of `variables` is enough to go on."""
    first, weight = _built(spec)
    for number in range(3):
        first.apply([tf.fill([6, 2], 1.0 - number)], [weight])
    second, copy = _built(spec)
    pairs = zip(second.variables, first.variables, strict=True)
    for variable, value in [*pairs, (copy, weight)]:
        variable.assign(value.numpy())
    for optimizer, variable in ((first, weight), (second, copy)):
        optimizer.apply([tf.fill([6, 2], 0.25)], [variable])
    assert np.allclose(weight.numpy(), copy.numpy(), atol=1e-7), (
        "it goes on otherwise from its saved variables: state lies elsewhere"
    )
