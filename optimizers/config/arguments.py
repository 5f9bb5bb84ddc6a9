"""What each kind of argument accepts, checked without importing TensorFlow."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SPARSE_MODES = ("lazy", "decayed", "dense")
MOMENTUM_DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Argument:
    """A test of one argument's value, and the words for what passes it."""

    accepts: str
    test: Callable[[Any], bool]

    def check(self, where: str, value: Any) -> None:
        """Raises a ValueError that names `where` if `value` does not pass."""
        if self.test(value):
            return
        raise ValueError(
            f"`{where}` must be {self.accepts}. "
            f"Received: {value!r}{_yaml_hint(value)}"
        )


def number(
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    optional: bool = False,
) -> Argument:
    """A finite number in [low, high]; `above`, `below` exclude the limit."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return (
            _is_number(value)
            and (value > low if above else value >= low)
            and (value < high if below else value <= high)
        )

    return Argument(_or_null(_range(low, high, above, below), optional), test)


def integer(least: int, *, optional: bool = False) -> Argument:
    """An integer that is at least `least`."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return is_integer(value) and value >= least

    return Argument(_or_null(f"an integer >= {least}", optional), test)


def choice(accepted: tuple[str, ...], *, optional: bool = False) -> Argument:
    """One of the strings `accepted`."""

    def test(value: Any) -> bool:
        if value is None:
            return optional
        return isinstance(value, str) and value in accepted

    listed = ", ".join(map(repr, accepted))
    return Argument(_or_null(f"one of {listed}", optional), test)


def boolean() -> Argument:
    """True or False."""
    return Argument("true or false", lambda value: isinstance(value, bool))


def is_integer(value: Any) -> bool:
    """Whether `value` is an integer and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _range(low: float, high: float, above: bool, below: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        left, right = "(" if above else "[", ")" if below else "]"
        return f"a number in {left}{low:g}, {high:g}{right}"
    if math.isfinite(low):
        return f"a number {'>' if above else '>='} {low:g}"
    if math.isfinite(high):
        return f"a number {'<' if below else '<='} {high:g}"
    return "a finite number"


def _or_null(accepts: str, optional: bool) -> str:
    return f"{accepts}, or null" if optional else accepts


def _yaml_hint(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    try:
        float(value)
    except ValueError:
        return ""
    return " (text, not a number: YAML reads 1e-4 as text, 1.0e-4 as a number)"


POSITIVE = number(0, above=True)
NON_NEGATIVE = number(0)
FRACTION = number(0, 1)
BETA = number(0, 1, below=True)
FINITE = number()
FLAG = boolean()

KERAS_ARGUMENTS = {
    "learning_rate": POSITIVE,
    "weight_decay": number(0, optional=True),
    "clipnorm": number(0, above=True, optional=True),
    "clipvalue": number(0, above=True, optional=True),
    "global_clipnorm": number(0, above=True, optional=True),
    "use_ema": FLAG,
    "ema_momentum": FRACTION,
    "ema_overwrite_frequency": integer(1, optional=True),
    "loss_scale_factor": number(0, above=True, optional=True),
    "gradient_accumulation_steps": integer(2, optional=True),
}
"""The arguments that every Keras optimizer accepts."""

LION_ARGUMENTS = {
    "beta_1": BETA,
    "beta_2": BETA,
    "sparse": choice(SPARSE_MODES),
    "momentum_dtype": choice(MOMENTUM_DTYPES, optional=True),
    "cautious": FLAG,
    "stochastic_rounding": FLAG,
    "frequency_power": FRACTION,
}
"""Lion's own; its `kernel` is judged by `optimizers.kernel`."""


def check_frequency(where: str, power: float | None, sparse: str) -> None:
    """Raises a ValueError if rows are to be counted that no mode tells apart.

    Args:
        where: the field of `power`.
        power: Lion's `frequency_power`, valid by itself.
        sparse: Lion's `sparse`.
    """
    if power and sparse == "dense":
        raise ValueError(
            f"`{where}` must be 0 with sparse: dense, which updates every row "
            "in every step; accepted beside another: lazy, decayed. "
            f"Received: {power!r}"
        )
