"""The learning rate over a run, step by step."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from optimizers import Lion, WarmupDecay


def rates(schedule, steps):
    return [float(schedule(step)) for step in range(steps)]


def test_warmup_rises_in_equal_steps_and_never_starts_at_zero():
    schedule = WarmupDecay(0.4, 100, warmup=4)
    np.testing.assert_allclose(
        rates(schedule, 6), [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("linear", [1, 0.775, 0.55, 0.325, 0.1]),
        ("exponential", [1, 0.1**0.25, 0.1**0.5, 0.1**0.75, 0.1]),
        (
            "cosine",
            [0.1 + 0.45 * (1 + np.cos(np.pi * p / 4)) for p in range(5)],
        ),
    ],
)
def test_the_decay_runs_from_the_peak_to_the_final_fraction(decay, expected):
    schedule = WarmupDecay(2.0, 10, decay, warmup=6, final=0.1)
    actual = [float(schedule(step)) for step in range(6, 11)]
    np.testing.assert_allclose(actual, 2 * np.array(expected), rtol=1e-5)
    assert float(schedule(1000)) == pytest.approx(2 * expected[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": "step"}, r"`decay`.*'cosine'.*Received: 'step'"),
        ({"warmup": 10}, r"`warmup`.*below 10.*Received: 10"),
        ({"warmup": -1}, r"`warmup`.*Received: -1"),
        (
            {"decay": "exponential", "final": 0.0},
            r"`final`.*exponential.*Received: 0.0",
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupDecay(0.1, 10, **arguments)


def test_a_schedule_drives_lion_without_retracing():
    schedule = WarmupDecay(0.1, 4, "linear", warmup=2)
    variable = keras.Variable(0.0)
    lion = Lion(schedule)
    lion.build([variable])
    traces = []

    @tf.function
    def step():
        traces.append(1)
        lion.apply([tf.constant(1.0)], [variable])

    positions = [0.0]
    for _ in range(4):
        step()
        positions.append(float(variable.numpy()))
    np.testing.assert_allclose(
        -np.diff(positions), [0.05, 0.1, 0.1, 0.05], rtol=1e-5
    )
    assert len(traces) == 1


def test_the_config_makes_the_same_schedule_again():
    schedule = WarmupDecay(0.1, 10, "cosine", 2, 0.5)
    lion = Lion(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(lion))
    assert again.get_config() == lion.get_config()
    assert rates(again._learning_rate, 10) == rates(schedule, 10)
