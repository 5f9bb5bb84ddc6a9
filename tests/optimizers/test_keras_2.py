"""The config's optimizers for Keras 2, against those for Keras 3."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from optimizers import build_optimizer, learning_rates, slot_bytes, validate
from optimizers.gradients import clip

STEPS = 6


def gradients(step: int) -> tuple[tf.IndexedSlices, tf.Tensor]:
    """Gradients of a matrix and a table [5, 2]: row 1 twice, row 4 never."""
    rng = np.random.default_rng(step)
    slices = tf.IndexedSlices(
        tf.constant(rng.normal(size=(4, 2)), tf.float32),
        tf.constant([1, 0, 1, step % 3]),
        tf.constant([5, 2]),
    )
    return slices, tf.constant(rng.normal(size=(3,)), tf.float32)


def trained(spec: dict[str, Any], version: int) -> list[Any]:
    """Table and matrix after STEPS steps of the optimizer of `spec`."""
    start = [np.ones((5, 2), np.float32), np.ones(3, np.float32)]
    optimizer = build_optimizer(spec, STEPS, version)
    if version == 2:
        variables = [
            tf.Variable(value, name=name)
            for value, name in zip(start, ("wide/table", "deep/x"), strict=True)
        ]
        assert isinstance(optimizer, tf_keras.optimizers.Optimizer)
    else:
        variables = [keras.Variable(value) for value in start]
        for variable, path in zip(
            variables, ("wide/table", "deep/x"), strict=True
        ):
            variable._path = path
    optimizer.build(variables)

    @tf.function
    def step(slices: tf.IndexedSlices, dense: tf.Tensor) -> None:
        if version == 2:
            optimizer.apply_gradients(
                zip([slices, dense], variables, strict=True)
            )
        else:
            # Keras 3 itself does not sum rows that occur more than once.
            optimizer.apply(clip([slices, dense], None, None, None), variables)

    rates = []
    for number in range(STEPS):
        rates.append(learning_rates(optimizer))
        step(*gradients(number))
    assert int(optimizer.iterations) == STEPS
    return [*(v.numpy() for v in variables), rates, slot_bytes(optimizer)]


SPECS: list[dict[str, Any]] = [
    {"name": "lion", "weight_decay": 0.1},
    {"name": "lion", "sparse": "decayed", "clipnorm": 0.5},
    {"name": "adam"},
    {"name": "adamw", "weight_decay": 0.1},
    {"name": "adagrad", "learning_rate": 0.1},
    {"name": "ftrl", "l1_regularization_strength": 0.01},
    {"name": "rmsprop", "momentum": 0.5},
    {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    {"name": "sgd", "learning_rate": 0.1, "schedule": {"name": "cosine"}},
    {
        "name": "lion",
        "schedule": {"name": "linear", "warmup": 2, "final": 0.5},
    },
    {
        "groups": [
            {"match": "wide/.*", "name": "ftrl", "learning_rate": 0.05},
            {"match": ".*", "name": "lion", "learning_rate": 0.01},
        ],
        "schedule": {"name": "cosine", "warmup": 0.5},
    },
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_numbers_are_those_of_keras_3(spec: dict[str, Any]) -> None:
    table, dense, rates, slots = trained(spec, 2)
    table_3, dense_3, rates_3, slots_3 = trained(spec, 3)
    np.testing.assert_allclose(table, table_3, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(dense, dense_3, rtol=2e-5, atol=1e-6)
    for found, expected in zip(rates, rates_3, strict=True):
        # The optimizers' own names differ in case only.
        assert [n.lower() for n in found] == [n.lower() for n in expected]
        assert list(found.values()) == pytest.approx(list(expected.values()))
    if spec != SPECS[8]:  # Keras 2 makes SGD's momentum even where it is 0
        assert slots == pytest.approx(slots_3, abs=16)


def test_adafactor_takes_a_step() -> None:
    table, dense, *_ = trained({"name": "adafactor", "learning_rate": 0.1}, 2)
    assert np.isfinite(table).all() and (dense != 1).all()


def test_clipping_sums_equal_rows_first() -> None:
    optimizer = build_optimizer(
        {"name": "sgd", "learning_rate": 1.0, "clipnorm": 1.0}, 1, keras=2
    )
    variable = tf.Variable(np.zeros((3, 1), np.float32))
    slices = tf.IndexedSlices(
        tf.constant([[3.0], [1.0]]), tf.constant([1, 1]), tf.constant([3, 1])
    )
    optimizer.apply_gradients([(slices, variable)])
    np.testing.assert_allclose(variable.numpy(), [[0], [-1], [0]], rtol=1e-6)


def test_a_checkpoint_holds_the_slots_of_all_groups(tmp_path: Any) -> None:
    spec = {"groups": [{"match": ".*", "name": "lion"}]}

    def state() -> Any:
        variable = tf.Variable(np.zeros((2, 1), np.float32), name="a/table")
        optimizer = build_optimizer(spec, 5, keras=2)
        optimizer.build([variable])
        return variable, optimizer

    variable, optimizer = state()
    optimizer.apply_gradients([(tf.constant([[1.0], [2.0]]), variable)])
    path = tf.train.Checkpoint(variable=variable, optimizer=optimizer).save(
        str(tmp_path / "c")
    )
    fresh, other = state()
    tf.train.Checkpoint(variable=fresh, optimizer=other).restore(
        path
    ).assert_consumed()
    assert int(other.iterations) == 1
    for one, two in zip(optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert len(other.variables) == 3  # steps, the group's steps, m


@pytest.mark.parametrize("key", ["loss_scale_factor", "clip"])
def test_what_does_not_work_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"optimizer\.{key}"):
        validate({"name": "adam", key: 2.0}, keras=2)
    group = {"match": ".*", "name": "lion", "gradient_accumulation_steps": 2}
    validate({"groups": [group]})
    with pytest.raises(ValueError, match=r"groups\.0\.gradient_acc"):
        validate({"groups": [group]}, keras=2)
