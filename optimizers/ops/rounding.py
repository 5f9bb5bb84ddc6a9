"""Rounding up or down at random, by noise that is a hash of the step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import tensorflow as tf

Scalar: TypeAlias = "tf.Tensor | float"

HALF = (tf.bfloat16, tf.float16)
_u32 = functools.partial(tf.constant, dtype=tf.uint32)


class Noise(NamedTuple):
    """Seed and step of rounding at random, and whether it is for weights."""

    seed: Scalar
    step: Scalar | None
    stochastic: bool


class Rounding(NamedTuple):
    """To what and how a momentum is rounded, and how weights are.

    `elements` returns the number of each element in its table.
    """

    dtype: tf.DType
    elements: Callable[[], tf.Tensor]
    noise: Noise


def narrow(
    var: tf.Tensor, m: tf.Tensor, dtype: tf.DType, rounding: Rounding
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rounds weights and momentum to their dtypes.

    A bfloat16 momentum is rounded up or down at random, and so are weights of
    half precision if they are to be. The mean is right. Rounding to nearest
    would lose for good all below half a unit in the last place, such as (1 -
    beta_2) * grad beside m.
    """
    at_random = rounding.noise.stochastic and dtype in HALF
    noise = None
    if rounds_at_random(dtype, rounding.dtype, at_random):
        noise = _hash(rounding)
    new_var = (
        _at_random(var, tf.bitwise.right_shift(noise, _u32(16)), dtype)
        if at_random
        else tf.cast(var, dtype)
    )
    if rounding.dtype != tf.bfloat16:
        return new_var, tf.cast(m, rounding.dtype)
    low = tf.bitwise.bitwise_and(noise, _u32(0xFFFF))
    return new_var, _at_random(m, low, tf.bfloat16)


def rounds_at_random(
    var_dtype: tf.DType, m_dtype: tf.DType, stochastic: bool
) -> bool:
    """True if a step with state of these dtypes depends on its number."""
    return m_dtype == tf.bfloat16 or (stochastic and var_dtype in HALF)


def _hash(rounding: Rounding) -> tf.Tensor:
    """Returns 32 bits per element: `Hash` in lion.h."""

    def uint32(number: Scalar) -> tf.Tensor:
        if isinstance(number, (int, float)):
            return _u32(int(number) % 2**32)
        return tf.cast(number, tf.uint32)

    shift, xor = tf.bitwise.right_shift, tf.bitwise.bitwise_xor
    seed, step, _ = rounding.noise
    step = step_or_chance(step)
    x = tf.cast(rounding.elements(), tf.uint32)
    x = (x + uint32(seed) * _u32(0x9E3779B9)) * _u32(0x85EBCA6B)
    x = xor(xor(x, shift(x, _u32(16))), uint32(step) * _u32(0xC2B2AE35))
    x *= _u32(0x7FEB352D)
    x = xor(x, shift(x, _u32(15))) * _u32(0x846CA68B)
    return xor(x, shift(x, _u32(16)))


def step_or_chance(step: Scalar | None) -> Scalar:
    """Returns `step`, or a random number for None: noise must not repeat."""
    if step is None:
        return tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32)
    return step


def _at_random(x: tf.Tensor, noise: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """`x` in a half precision, by 16 bits of noise: `NarrowAtRandom`."""
    x = tf.cast(x, tf.float32)
    bits = tf.bitcast(x, tf.uint32)
    if dtype == tf.bfloat16:
        kept = tf.bitwise.bitwise_and(bits + noise, _u32(0xFFFF0000))
    else:
        size = tf.abs(x)
        tiny = size < 2.0**-14
        # Subnormals are multiples of 2^-24; other numbers drop 13 bits.
        units = tf.where(tiny, size, 0.0) * 2.0**24
        units = tf.floor(units + tf.cast(noise, tf.float32) * 2.0**-16)
        moved = bits + tf.bitwise.right_shift(noise, _u32(3))
        moved = tf.bitwise.bitwise_and(moved, _u32(0xFFFFE000))
        kept = tf.where(
            tiny,
            tf.bitcast(tf.sign(x) * units * 2.0**-24, tf.uint32),
            tf.where(size < 65520.0, moved, bits),
        )
    rounded = tf.bitcast(kept, tf.float32)
    return tf.cast(tf.where(tf.math.is_nan(x), x, rounded), dtype)
